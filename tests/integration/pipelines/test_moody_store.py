"""What a store says no to for now, or no longer has: tried again, or computed again; not the end of the run."""

import json
import subprocess
import uuid
from pathlib import Path

import pytest

pytest.importorskip("dvc", reason="needs the extra `dvc`")

from pipelines.verdicts import FailedForGood
from tests.integration.pipelines.toy import PARAMS, Toy
from tests.support.forgetful_store import Forgetful
from tests.support.servers import S3Server

pytestmark = pytest.mark.integration
ANSWERS = {  # method, part of the path, status, code -> the step's exit code, what it ran, whether the run is ended
    "a clock that is wrong on this node": ("PUT", "pipeline-runs", 403, "RequestTimeTooSkewed", 74, [], False),
    "keys that were renewed meanwhile": ("PUT", "pipeline-runs", 403, "ExpiredToken", 74, [], False),
    "keys that are wrong": ("PUT", "pipeline-runs", 403, "InvalidAccessKeyId", 0, [], True),
    "too many requests": ("PUT", "pipeline-runs", 503, "SlowDown", 74, [], False),
    "a result that is listed and gone": ("GET", "/runs/", 404, "NoSuchKey", 0, ["fetch"], False),
}
PATIENT = {"too many requests"}  # the store's client waits and asks again for a minute


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow) if case in PATIENT else case for case in ANSWERS],
)
def test_what_the_store_answers_decides_what_becomes_of_the_run(case: str, s3_server: S3Server, tmp_path: Path) -> None:
    method, path, status, code, exit_code, ran, ended = ANSWERS[case]
    bucket = s3_server.create_bucket(f"moody-{uuid.uuid4().hex[:12]}")
    toy = Toy(tmp_path, f"s3://{bucket}/dvc", s3_server.env).create()
    toy.step("first", "fetch", None)
    assert toy.ran() == ["fetch"]
    with Forgetful(s3_server.endpoint, method, path, status, code) as store:
        toy.env = {**toy.env, "AWS_ENDPOINT_URL": store.uri, "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}
        command, outputs = toy.command("second", "fetch", None, PARAMS)
        done = subprocess.run(command, env=toy.environment(), cwd=toy.root, capture_output=True, text=True)
    assert (done.returncode, toy.ran()) == (exit_code, ran), done.stderr[-2000:]
    failed = FailedForGood.read(outputs / "lock")
    assert (failed is not None) == ended, failed
    if exit_code == 0 and not ended:
        assert json.loads((outputs / "metrics").read_text())["step.made_bytes"] > 0


@pytest.mark.parametrize("content", [b"", b"{", b"cmd: x", b"\xff\xfe", b"- 1"])
def test_a_result_whose_record_is_damaged_is_computed_again(content: bytes, tmp_path: Path) -> None:
    """And kept, so that the next run does not compute it."""
    (tmp_path / "remote").mkdir()
    toy = Toy(tmp_path, str(tmp_path / "remote"), {}).create()
    toy.step("first", "fetch", None)
    [kept] = [path for path in (tmp_path / "remote/runs").rglob("*") if path.is_file()]
    kept.chmod(0o644)
    kept.write_bytes(content)
    toy.ran()
    toy.step("second", "fetch", None)
    assert toy.ran() == ["fetch"]
    toy.step("third", "fetch", None)
    assert toy.ran() == []
