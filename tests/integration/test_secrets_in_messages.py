"""An address with a password in it is used or refused; what programs print, and the files that they leave, have it not.

Real programs, each as a user starts it, with an address of every kind that they take: of MLflow, a database, an object
store, a registry of images, Kubeflow, a receiver of decisions.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hymunet.training.tracking.journal import Journal
from tests.support.servers import HOST

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parents[2]
AT = "@"
SECRET = "s3cret"
USER = f"ann:{SECRET}{AT}"
CLOSED = f"{HOST}:9"  # a port where nobody answers
BUCKET = f"s3://{USER}bucket/prefix"
STORE = {
    "AWS_ENDPOINT_URL": f"http://{USER}{CLOSED}",
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",
}
OUTPUTS = {
    "outputs": {
        "artifacts": {"lock": {"artifacts": [{"name": "lock", "uri": "{here}/outputs/lock"}]}},
        "outputFile": "{here}/outputs/executor_output.json",
    }
}
PARAMS = json.dumps({"data": {"source": "synthetic"}})
STEP = ("pipelines.step", "--stage", "download", "--run", "r", "--params", PARAMS)
CLI, PIPELINES = "hymunet.cli", ("pipelines", "compile", "--output", "{here}/p.yaml")
CASES: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {  # program, environment, words of its answer
    "a database, its driver missing": (
        (CLI, "deliver"),
        {"MLFLOW_TRACKING_URI": f"mysql+pymysql://{USER}{CLOSED}/x"},
        "needs the package pymysql",
    ),
    "a database that is down": (
        (CLI, "models", "list"),
        {"MLFLOW_REGISTRY_URI": f"postgresql://{USER}{CLOSED}/x"},
        f"postgresql://{CLOSED}/x",
    ),
    "a registry of no kind": (
        (CLI, "models", "list"),
        {"MLFLOW_REGISTRY_URI": f"nonsense+x://{USER}{CLOSED}/x"},
        f"MLflow at nonsense+x://{CLOSED}/x",
    ),
    "a receiver of no kind": ((CLI, "models", "promote", "--notify", f"ftp://{USER}h"), {}, "--notify ftp://h: expec"),
    "a receiver with a user": ((CLI, "models", "promote", "--notify", f"http://{USER}h"), {}, "the address holds a us"),
    "a bucket of journals": ((CLI, "deliver", "--checkpoints", BUCKET), {}, "s3://bucket/prefix: the address of check"),
    "a store of journals": ((CLI, "deliver", "--checkpoints", "s3://b/p"), STORE, f"http://{CLOSED}/b"),
    "Kubeflow": (("pipelines", "status", "run", "--host", f"https://{USER}kfp.example"), {}, "see --auth"),
    "Kubeflow, of the environment": (
        ("pipelines", "status", "run"),
        {"KF_PIPELINES_ENDPOINT": f"https://{USER}kfp.example"},
        "see --auth",
    ),
    "an image": ((*PIPELINES, "--image", f"cpu={USER}r.example/x{AT}sha256:{'0' * 64}"), {}, "is no image's name"),
    "an image's address": ((*PIPELINES, "--image", f"cpu=https://{USER}r.example/x"), {}, "is no image's name"),
    "a bucket of images": (
        (*PIPELINES, "--allow-tags", "--pipeline", "predict", "--source", BUCKET, "--target", "s3://b/out"),
        {},
        "--source s3://bucket/prefix: an address with a user",
    ),
    "a bucket of masks": (
        (*PIPELINES, "--allow-tags", "--pipeline", "predict", "--target", BUCKET, "--source", "s3://b/in"),
        {},
        "--target s3://bucket/prefix: an address with a user",
    ),
    "a pod's images": (
        (
            *("pipelines.predict_images", "--model", "models:/m/1", "--source", BUCKET, "--target", "s3://b/out"),
            *("--executor-input", json.dumps(OUTPUTS)),
        ),
        {},
        "s3://bucket/prefix: the address holds a user",
    ),
    "a pod's store of images": (
        (
            *("pipelines.predict_images", "--model", "models:/m/1", "--source", "s3://b/in", "--target", "s3://b/out"),
            *("--executor-input", json.dumps(OUTPUTS)),
        ),
        STORE,
        "s3://b/in: ",
    ),
    "a DVC remote": ((*STEP, "--remote", BUCKET, "--executor-input", json.dumps(OUTPUTS)), {}, "DVC remote s3://bucke"),
    "a DVC remote's store": (
        (*STEP, "--remote", "s3://b/p", "--executor-input", json.dumps(OUTPUTS)),
        STORE,
        "the remote s3://b/p cannot be written",
    ),
    "a run's records": (
        ("pipelines.finish", "--run", "r", "--remote", BUCKET),
        {},
        "the records in s3://bucket/prefix",
    ),
    "a run's records' store": (("pipelines.finish", "--run", "r", "--remote", "s3://b/p"), STORE, "cannot be read"),
}


@pytest.mark.parametrize("case", CASES)
def test_neither_output_nor_files_have_it(case: str, tmp_path: Path) -> None:
    if (program := CASES[case][0][0]).startswith("pipelines"):
        pytest.importorskip("kfp", reason="needs the extra `pipelines`")
        pytest.importorskip("dvc", reason="needs the extra `dvc`")
    with Journal(tmp_path / "journal/key", {"params": {"train.epochs": 3}, "tags": {}}) as journal:
        journal.metrics(1, {"loss": 0.5})
    shutil.copy(ROOT / "params.yaml", tmp_path)
    words = [word.replace("{here}", str(tmp_path)) for word in CASES[case][0][1:]]
    unset = ("AWS_", "MLFLOW_", "KF_", "HYMUNET_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "HYMUNET_NOTIFY_SECRET": "x", **CASES[case][1]}
    where = ROOT if program == "pipelines" else tmp_path
    done = subprocess.run(
        [sys.executable, "-m", program, *words], cwd=where, env=environment, capture_output=True, text=True, timeout=200
    )
    said = done.stdout + done.stderr
    assert CASES[case][2] in said, said
    assert SECRET not in said
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]


def test_a_server_s_log_has_no_secret_of_what_keeps_it_from_a_new_version(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("fastapi", reason="needs the extra `serve`")
    from hymunet.serving import follow

    loaded = follow.Loaded(None, "models:/m/1", "")  # type: ignore[arg-type]

    def fails(where: str) -> str:
        raise ConnectionError(f"http://{USER}{CLOSED}/m is away")

    monkeypatch.setattr(follow, "load", lambda where: loaded)
    monkeypatch.setattr(follow, "current", fails)
    follow.Follower("models:/m/1", 1).look()
    assert f"ConnectionError: http://{CLOSED}/m is away" in caplog.text
    assert SECRET not in caplog.text
