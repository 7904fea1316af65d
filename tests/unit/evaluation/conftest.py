"""Fixtures of several of these files."""

import pytest

from tests.support.own_images import write_images


@pytest.fixture(scope="module")
def model(finished_training):
    return finished_training / "artifacts/model"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Images of one's own in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path)
    return tmp_path
