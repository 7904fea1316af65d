"""The compiled pipeline in real containers, on a real store, registry and database. The tests build on one another's
runs.
"""

import re
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from tests.containers.stack import RESTORED, STEPS, Stack, checkout, dvc, ran
from tests.support.secrets import find

TRAINING = {"train__epochs": "2", "train__checkpoint_minutes": "0.0001"}  # a checkpoint after every step
pytestmark = [pytest.mark.containers, pytest.mark.integration, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def stack(new_stack: Callable[..., Stack]) -> Stack:
    return new_stack("pipeline")


def versions(stack: Stack) -> list[str]:
    found = mlflow.MlflowClient(stack.mlflow.uri).search_model_versions(f"name = '{stack.name}'")
    return sorted(version.version for version in found)


def test_a_killed_training_goes_on_in_the_next_container(stack: Stack) -> None:
    code, log = stack.run_and_kill_training("first", **TRAINING)
    assert code == 0, log[-4000:]
    assert re.search(r"train: goes on at step [1-9]\d* of", log), log[-4000:]
    assert stack.states("first") == dict.fromkeys(STEPS, "computed")
    assert versions(stack) == ["1"]


def test_a_second_run_computes_nothing_and_fetches_no_data(stack: Stack) -> None:
    code, log = stack.run("second", **TRAINING)
    assert code == 0, log[-4000:]
    assert stack.states("second") == RESTORED
    records = stack.records("second")
    assert sum(records[step]["pulled_bytes"] for step in STEPS - {"register"}) == 0
    assert versions(stack) == ["1"]


def test_a_fresh_clone_has_it_all_by_fetch(stack: Stack, tmp_path: Path) -> None:
    clone = checkout(stack, tmp_path / "clone")
    stack.fetch("first", clone)
    assert dvc(stack, clone, "status").split() == ["register:", "always", "changed"]
    assert ran(dvc(stack, clone, "repro")) == {"register"}, "which asks the registry, and changes nothing there"
    assert versions(stack) == ["1"]
    assert (clone / "reports/evaluation/report.html").exists()
    assert (clone / "artifacts/model/model.safetensors").exists()


def test_what_the_workstation_computes_the_cluster_does_not(stack: Stack, tmp_path: Path) -> None:
    clone = checkout(stack, tmp_path / "clone")
    stack.fetch("first", clone)
    parameters = (clone / "params.yaml").read_text()
    assert "bootstrap: 100" in parameters
    (clone / "params.yaml").write_text(parameters.replace("bootstrap: 100", "bootstrap: 101"))
    out = dvc(stack, clone, "repro")
    assert ran(out) == {"evaluate", "register"}
    dvc(stack, clone, "push", "--run-cache", "--remote", "run")
    code, log = stack.run("third", **TRAINING, evaluate__bootstrap="101")
    assert code == 0, log[-4000:]
    assert stack.states("third") == RESTORED
    assert versions(stack) == ["1", "2"]


def test_refused_data_stop_the_pipeline_with_a_report(stack: Stack) -> None:
    code, log = stack.run("refused", **TRAINING, validate__min_images="1000")
    assert code == 1
    assert stack.states("refused") == {
        "download": "restored",
        "prepare": "restored",
        "split": "restored",
        "validate": "rejected",
    }
    assert "the data checks refused the data" in log
    assert "validate: FAILED" in log
    reports = sorted((stack.folder / "artifacts").glob("*/validate/report"), key=lambda path: path.stat().st_mtime)
    assert "<h1>Data checks</h1>" in reports[-1].read_text()


def test_no_secret_is_in_what_the_runs_left_behind(stack: Stack) -> None:
    """Logs, Kubeflow's artifacts, the YAML and the records in the store; the secret is one that only this stack
    knows.
    """
    secret = [stack.s3.env["AWS_SECRET_ACCESS_KEY"]]
    assert len(secret[0]) > 20
    texts = {path: path.read_text(errors="ignore") for path in stack.folder.rglob("*") if path.is_file()}
    assert any(path.name == "pipeline.yaml" for path in texts)
    assert {str(path): found for path, text in texts.items() if (found := find(text, secret))} == {}
    store = stack.s3.client()
    for entry in store.list_objects_v2(Bucket=stack.bucket, Prefix="dvc/pipeline-runs/")["Contents"]:
        body = store.get_object(Bucket=stack.bucket, Key=entry["Key"])["Body"].read().decode()
        assert find(body, secret) == [], entry["Key"]
    client = mlflow.MlflowClient(stack.mlflow.uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments):
        assert find(str(run.to_dictionary()), secret) == []
