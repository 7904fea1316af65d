import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from hymunet import cli, evidence, params
from hymunet.evaluation.evaluate import evaluate
from hymunet.registry import client, register
from hymunet.registry.client import CHALLENGER, CHAMPION
from tests.support.scored_versions import TAGS, images_tested, write_version

ROOT = Path(__file__).resolve().parents[3]
NAMES = (f"candidate-{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def evaluated_project(finished_training, tmp_path_factory):
    """A trained and evaluated model, to be copied or read."""
    root = Path(shutil.copytree(finished_training, tmp_path_factory.mktemp("registry") / "project"))
    section = params.Evaluate(threshold=0.5, temperature=1.0, flips=False, shifts=False, bootstrap=500, seed=0)
    paths = ("artifacts/model", "data/prepared", "data/split/split.csv", "reports/training", "reports/evaluation")
    evaluate(*(root / path for path in paths), section)
    return root


@pytest.fixture(scope="session")
def saved(evaluated_project, tmp_path_factory):
    """The model in MLflow's format, as it is registered."""
    root = evaluated_project
    records = ("artifacts/model/model.json", "reports/evaluation/metrics.json", "data/split/split.json")
    read = [evidence.read(root / path, "") for path in records]
    target = tmp_path_factory.mktemp("saved") / "version"
    register.save(register.Candidate(root / "artifacts/model", root / "reports/evaluation", *read), target)
    return target


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


@pytest.fixture
def name(registry):
    chosen = next(NAMES)
    registry.create_registered_model(chosen)
    return chosen


@pytest.fixture
def add(registry, name, tmp_path):
    """Registers a version with these Dice scores as the challenger; returns its number."""

    def add(dice, **how):
        folder = tmp_path / "version"
        shutil.rmtree(folder, ignore_errors=True)
        write_version(folder, np.asarray(dice), **how)
        run = registry.create_run("0").info
        registry.log_artifacts(run.run_id, str(folder), "model")
        tags = {**TAGS, "hymunet.test_images_sha256": images_tested(folder), "test.dice": f"{np.mean(dice):.6f}"}
        tags |= {"test.dice.low": "0.1", "test.dice.high": "0.9"}
        version = registry.create_model_version(name, f"{run.artifact_uri}/model", run.run_id, tags=tags).version
        registry.set_registered_model_alias(name, CHALLENGER, version)
        return str(version)

    return add


@pytest.fixture
def champion(registry, name):
    return lambda: str(registry.get_registered_model(name).aliases.get(CHAMPION))


@pytest.fixture
def command(name, capsys, tmp_path, monkeypatch):
    """Runs `hymunet models ACTION …` on this model, in a wide terminal; returns exit code, output and the error."""
    monkeypatch.setenv("COLUMNS", "200")
    parameters = tmp_path / "params.yaml"
    text = (ROOT / "profiles/paper.yaml").read_text()
    for key in ("max_slower", "max_larger"):  # these versions hold no weights that run
        text = text.replace(f"{key}: 1.5", f"{key}: null")
    text = text.replace("contract: true", "contract: false")
    parameters.write_text(text)

    def command(action, *arguments):
        named = [] if "--name" in arguments else ["--name", name]
        code = cli.main(["models", action, *arguments, *named, "--params", str(parameters)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command
