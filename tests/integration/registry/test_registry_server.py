"""Registration and promotion by the programs, against an MLflow server on PostgreSQL that keeps the artifacts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from components.register.__main__ import main as register
from hymunet import cli, params
from hymunet.evaluation.evaluate import evaluate
from hymunet.inference import Segmenter

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture
def project(finished_training, tmp_path, monkeypatch):
    root = Path(shutil.copytree(finished_training, tmp_path / "project"))
    text = (ROOT / "profiles/paper.yaml").read_text()
    for now, here in {
        "model_name: hymunet": "model_name: registered",
        "min_dice: 0.5": "min_dice: 0.0",
        "max_missed: 0.1": "max_missed: 1.0",
        "max_ece: 0.15": "max_ece: 1.0",
        "max_slower: 1.5": "max_slower: 10",
        "max_larger: 1.5": "max_larger: 10",
        "reproducible: true": "reproducible: false",
    }.items():
        text = text.replace(now, here)
    (root / "params.yaml").write_text(text)
    monkeypatch.chdir(root)
    return root


def score(threshold):
    """Evaluates at this threshold, which is content of its own; returns the mean Dice."""
    section = params.Evaluate(threshold=threshold, temperature=1.0, flips=False, shifts=False, bootstrap=200, seed=0)
    paths = ("artifacts/model", "data/prepared", "data/split/split.csv", "reports/training", "reports/evaluation")
    return evaluate(*map(Path, paths), section)["native"]["dice"]["mean"]


def test_versions_are_registered_promoted_and_rolled_back(mlflow_server, project, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)

    def said_by(program, *arguments, code=0):
        assert (program(list(arguments)) or 0) == code
        captured = capsys.readouterr()
        return captured.out + captured.err

    first = score(0.98)
    assert "registered version 1 is the challenger" in said_by(register)
    assert "registered version 1 is the challenger" in said_by(register), "the same content, the same version"
    written = json.loads((project / "reports/registration/registration.json").read_text())
    assert (written["registry"], written["version"]) == (mlflow_server.uri, 1)
    assert "version 1 becomes champion" in said_by(cli.main, "models", "promote")

    parameters = project / "params.yaml"  # the contract of a version that the server keeps was asked for: once
    parameters.write_text(parameters.read_text().replace("contract: true", "contract: false"))
    second = score(0.5)
    assert second > first, "0.98 is too much to ask of a pixel"
    assert "registered version 2 is the challenger" in said_by(register)
    promoted = said_by(cli.main, "models", "promote")
    assert "version 2 becomes champion" in promoted
    assert f"| {second - first:+.4f} (95 % interval" in promoted

    parameters.write_text(parameters.read_text().replace("max_slower: 10", "max_slower: null"))  # asked before
    assert f"Dice {first - second:+.4f}" in said_by(cli.main, "models", "promote", "1", code=1)
    assert "version 1 is champion again" in said_by(cli.main, "models", "rollback")
    listed = json.loads(said_by(cli.main, "models", "list", "--json"))
    assert [row["version"] for row in listed] == ["2", "1"]
    assert [row["aliases"] for row in listed] == [["challenger"], ["champion"]]
    kinds = [entry["kind"] for entry in json.loads(said_by(cli.main, "models", "history", "--json"))]
    assert kinds == ["promote", "promote", "refuse", "rollback"]
    assert json.loads(said_by(cli.main, "models", "verify", "--json"))["findings"] == []

    import mlflow

    images = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    loaded = mlflow.pyfunc.load_model("models:/registered@champion")
    expected = np.stack(Segmenter.load(project / "artifacts/model", threshold=0.98).masks(list(images)))
    np.testing.assert_array_equal(loaded.predict(images), expected)
