"""Fixtures of every test here."""

import shutil
from pathlib import Path

import pytest

from tests.integration.pipelines.toy import STAGES, Toy
from tests.support.kubeflow import stack_without_source

__all__ = ["stack_without_source"]


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The toy after a run `first`: to be read, or copied."""
    root = tmp_path_factory.mktemp("first")
    (root / "remote").mkdir()
    toy = Toy(root, str(root / "remote"), {}).create()
    assert toy.run("first") == STAGES
    return toy


@pytest.fixture
def after_first(first_run: Toy, tmp_path: Path) -> Toy:
    shutil.copytree(first_run.root, tmp_path, dirs_exist_ok=True)
    return Toy(tmp_path, str(tmp_path / "remote"), {})
