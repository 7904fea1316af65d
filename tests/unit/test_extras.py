"""A command whose package is not installed ends in a line that names the extra, as documented in troubleshooting."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hymunet import extras
from hymunet.training.tracking.journal import Journal
from tests.support import small_project
from tests.support.small_study import ROOT

CORE = {"annotated_types", "cv2", "numpy", "pydantic", "pydantic_core", "ruamel", "safetensors", "simplejpeg", "tqdm"}
CORE |= {"typing_extensions", "typing_inspection", "zlib_ng"}
# Python with the packages of `pip install hymunet` and no others, as a fresh environment finds them.
WITHOUT_EXTRAS = f"""
import importlib.machinery, importlib.metadata, runpy, sys
core = {CORE!r}
others = set(importlib.metadata.packages_distributions()) - core - {{"hymunet", "components", "pipelines"}}
others -= sys.stdlib_module_names
Finder = importlib.machinery.PathFinder
find = Finder.find_spec
Finder.find_spec = lambda name, *more: None if name.partition(".")[0] in others else find(name, *more)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
SERVER = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
PREPARED = ["--prepared", "data/prepared", "--split", "data/split/split.csv"]
CASES = {
    "the registry": (["hymunet.cli", "models", "list"], "hymunet models: needs the package mlflow", "train"),
    "augmentation": (["hymunet.cli", "show-augment", *PREPARED], "hymunet show-augment: needs the package ", "train"),
    "tables": (["hymunet.cli", "study", "tables", "studies/recipe"], "hymunet study: needs the package ", "train"),
    "own images": (
        ["hymunet.cli", "evaluate", "--images", "a", "--masks", "b", "--output", "c"],
        "hymunet evaluate: needs the package jinja2",
        "evaluate",
    ),
    "export": (["hymunet.cli", "export", "--output", "m.onnx"], "hymunet export: needs the package onnx", "export"),
    "serving": (["hymunet.cli", "serve"], "hymunet serve: needs the package fastapi", "serve"),
    "a step": (["components.validate"], "validate: needs the package ", "validate"),
    "a cluster": (["pipelines", "compile", "--allow-tags"], "pipelines: needs the package kfp", "pipelines"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_package_that_is_not_installed_is_one_line_with_its_extra(case: str, tmp_path: Path) -> None:
    command, said, extra = CASES[case]
    for name in ("params.yaml", "profiles", "studies", "infra"):
        (tmp_path / name).symlink_to(ROOT / name)
    small_project.write_data(tmp_path / "data")
    line = refused(command, tmp_path)
    assert line.startswith(said)
    assert line.endswith(f"; pip install 'hymunet[{extra}]'\n")


def refused(command: list[str], folder: Path) -> str:
    environment = {**os.environ, **SERVER, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", WITHOUT_EXTRAS, *command]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_metrics_wait_where_mlflow_is_not_installed(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal/key", {"params": {}, "tags": {}}) as journal:
        journal.metrics(0, {"loss": 1.0})
    line = refused(["hymunet.training.tracking.worker"], tmp_path)
    assert "records wait" in line
    assert "needs the package mlflow; pip install 'hymunet[train]'" in line


@pytest.mark.parametrize(
    ("module", "extra"), [("PIL", "serve"), ("pynvml", "train"), ("great_expectations", "validate"), ("boto3", "data")]
)
def test_a_module_that_pip_calls_otherwise_is_found(module: str, extra: str) -> None:
    assert extras.extras_of(module)[0] == extra


@pytest.mark.parametrize("module", ["no_such_module", "numpy", "", "hymunet"])
def test_what_no_extra_brings_keeps_its_traceback(module: str) -> None:
    assert extras.missing(ModuleNotFoundError("No module named x", name=module or None)) is None


def test_the_extra_of_the_command_goes_first_where_several_bring_the_package() -> None:
    error = ModuleNotFoundError("No module named 'jinja2'", name="jinja2.environment")
    assert extras.missing(error, "evaluate") == "needs the package jinja2; pip install 'hymunet[evaluate]'"
    assert extras.missing(error, "models") == "needs the package jinja2; pip install 'hymunet[validate]'"
