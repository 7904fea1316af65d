"""The compiled pipeline in real containers, on a real store, registry and database. The tests build on one another's runs."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.containers.stack import ROOT, Stack, snapshot

pytestmark = [pytest.mark.containers, pytest.mark.integration, pytest.mark.timeout(1200)]
STEPS = {"download", "prepare", "split", "validate", "train", "evaluate", "register"}
# Registration acts on a registry that may not know the model: it runs always, and finds its version by content.
RESTORED = {step: "restored" for step in STEPS} | {"register": "computed"}


def dvc(stack: Stack, clone: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=clone,
        env={**stack.environment(), "PYTHONPATH": "", "AWS_ENDPOINT_URL": stack.s3.endpoint, "MLFLOW_TRACKING_URI": stack.mlflow.uri,
             "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def versions(stack: Stack) -> list[str]:
    import mlflow

    found = mlflow.MlflowClient(stack.mlflow.uri).search_model_versions("")
    return sorted(version.version for version in found)


def test_a_killed_training_goes_on_in_the_next_container(stack: Stack) -> None:
    import docker

    process = stack.start("first", train__epochs="6", train__checkpoint_minutes="0.0001")
    engine, killed = docker.from_env(), 0
    while process.poll() is None and not killed:
        checkpoints = stack.s3.client().list_objects_v2(Bucket=stack.bucket, Prefix="checkpoints/").get("KeyCount", 0)
        for container in engine.containers.list(filters={"ancestor": stack.images["cpu"]}) if checkpoints else []:
            if "train" in container.attrs["Config"]["Cmd"]:
                container.kill()
                killed += 1
        time.sleep(0.05)
    log, _ = process.communicate(timeout=900)
    (stack.folder / "first.log").write_text(log)
    assert process.returncode == 0, log[-4000:]
    assert killed == 1, "the training ended before it could be killed"
    assert "resum" in log.lower(), log[-4000:]
    assert stack.states("first") == {step: "computed" for step in STEPS}
    assert versions(stack) == ["1"]


def test_a_second_run_computes_nothing_and_fetches_no_data(stack: Stack) -> None:
    code, log = stack.run("second", train__epochs="6", train__checkpoint_minutes="0.0001")
    assert code == 0, log[-4000:]
    assert stack.states("second") == RESTORED
    records = stack.records("second")
    assert sum(records[step]["pulled_bytes"] for step in STEPS - {"register"}) == 0
    assert versions(stack) == ["1"]


def test_a_fresh_clone_has_it_all_by_fetch(stack: Stack, tmp_path: Path) -> None:
    clone = checkout(stack, tmp_path / "clone")
    process = stack.pipelines("fetch", "first", cwd=clone)
    log, _ = process.communicate(timeout=300)
    assert process.returncode == 0, log
    assert "up to date" in dvc(stack, clone, "status")
    assert "Running stage" not in dvc(stack, clone, "repro")
    assert (clone / "reports/evaluation/report.html").exists()
    assert (clone / "artifacts/model/model.safetensors").exists()


def test_what_the_workstation_computes_the_cluster_does_not(stack: Stack, tmp_path: Path) -> None:
    clone = checkout(stack, tmp_path / "clone")
    stack.pipelines("fetch", "first", cwd=clone).communicate(timeout=300)
    parameters = (clone / "params.yaml").read_text()
    assert "bootstrap: 100" in parameters
    (clone / "params.yaml").write_text(parameters.replace("bootstrap: 100", "bootstrap: 101"))
    out = dvc(stack, clone, "repro")
    assert [stage for stage in sorted(STEPS) if f"Running stage '{stage}'" in out] == ["evaluate", "register"]
    dvc(stack, clone, "push", "--run-cache", "--remote", "run")
    code, log = stack.run("third", train__epochs="6", train__checkpoint_minutes="0.0001", evaluate__bootstrap="101")
    assert code == 0, log[-4000:]
    assert stack.states("third") == RESTORED
    assert versions(stack) == ["1", "2"]


def test_refused_data_stop_the_pipeline_with_a_report(stack: Stack) -> None:
    code, log = stack.run("refused", train__epochs="6", validate__min_images="1000")
    assert code == 1
    assert stack.states("refused") == {
        "download": "restored", "prepare": "restored", "split": "restored", "validate": "rejected",
    }
    assert "the data checks refused the data" in log
    [report] = (stack.folder / "artifacts").glob(f"*/validate/report")[-1:] if False else sorted(
        (stack.folder / "artifacts").glob("*/validate/report"), key=lambda path: path.stat().st_mtime
    )[-1:]
    assert "1000" in report.read_text()


def checkout(stack: Stack, target: Path) -> Path:
    """A copy of the project without caches, under a git of its own."""
    shutil.copytree(stack.project, target)
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=target, check=True)
    return target
