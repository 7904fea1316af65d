import shutil
from pathlib import Path

import pytest

from hymunet import params
from hymunet.evaluation.evaluate import evaluate
from hymunet.registry import client


@pytest.fixture(scope="session")
def evaluated_project(finished_training, tmp_path_factory):
    """A trained and evaluated model, to be copied or read."""
    root = Path(shutil.copytree(finished_training, tmp_path_factory.mktemp("registry") / "project"))
    section = params.Evaluate(threshold=0.5, temperature=1.0, flips=False, shifts=False, bootstrap=500, seed=0)
    paths = ("artifacts/model", "data/prepared", "data/split/split.csv", "reports/training", "reports/evaluation")
    evaluate(*(root / path for path in paths), section)
    return root


@pytest.fixture(scope="session")
def registry_home(tmp_path_factory):
    """One mlflow.db and its artifacts for all tests: MLflow takes seconds to make the tables."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def registry(registry_home, monkeypatch):
    """A client of the shared registry, which is also what the code under test finds. Use a model name of your own."""
    monkeypatch.chdir(registry_home)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registry_home}/mlflow.db")
    with client.registry() as opened:
        yield opened
