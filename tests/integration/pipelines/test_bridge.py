"""The bridge between Kubeflow and DVC, on a toy pipeline with a real S3 endpoint: each step in an empty folder, as in
a pod.
"""

import argparse
import errno
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from pipelines.step import require_writable
from pipelines.verdicts import FailedForGood
from pipelines.workspace import StageFailed, merge_locks, write_lock
from tests.integration.pipelines.toy import OPTIONS, PARAMS, STAGES, Toy, executor_input_of
from tests.support.servers import S3Server


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """With a folder as the shared remote: to DVC a remote like any other, and quick."""
    (tmp_path / "remote").mkdir()
    return Toy(tmp_path, str(tmp_path / "remote"), {}).create()


@pytest.fixture
def before_fit(after_first: Toy) -> Toy:
    """Its last stage is to be run by another step."""
    shutil.rmtree(after_first.root / "runs/first/fit")
    return after_first


@pytest.fixture
def toy_on_s3(tmp_path: Path, s3_server: S3Server) -> Toy:
    bucket = s3_server.create_bucket(f"toy-{uuid.uuid4().hex[:12]}")
    return Toy(tmp_path, f"s3://{bucket}/dvc", s3_server.env).create()


def stored(toy: Toy, size: int) -> Path:
    """The one object of that size in the remote."""
    [found] = [path for path in Path(toy.remote).rglob("*") if path.is_file() and path.stat().st_size == size]
    return found


def record(toy: Toy, run: str, stage: str) -> dict:
    return json.loads((Path(toy.remote) / f"pipeline-runs/{run}/{stage}.json").read_text())


@pytest.mark.integration
def test_on_s3_a_second_run_computes_nothing_and_reports_the_same(toy_on_s3: Toy, s3_server: S3Server) -> None:
    for run in ("first", "second"):
        toy_on_s3.step(run, "fetch", None)
        toy_on_s3.step(run, "prepare", "fetch")
    assert toy_on_s3.ran() == ["fetch", "prepare"]
    first, second = (toy_on_s3.root / f"runs/{run}/prepare/lock" for run in ("first", "second"))
    assert first.read_text() == second.read_text()
    bucket = toy_on_s3.remote.split("/")[2]
    keys = [o["Key"] for o in s3_server.client().list_objects_v2(Bucket=bucket)["Contents"]]
    assert "dvc/pipeline-runs/second/dvc.lock" in keys


def test_a_second_run_computes_nothing_and_moves_no_data(after_first: Toy) -> None:
    toy = after_first
    assert record(toy, "first", "prepare")["pulled_bytes"] >= 200_000
    assert toy.run("second") == []
    for stage in STAGES:
        again = record(toy, "second", stage)
        assert again["state"] == "restored"
        assert again["pulled_bytes"] == 0, again
    first, second = (toy.root / f"runs/{run}/fit/lock" for run in ("first", "second"))
    assert first.read_text() == second.read_text()


def test_one_parameter_runs_the_stages_that_depend_on_it(after_first: Toy) -> None:
    assert after_first.run("rate", PARAMS | {"fit": {"rate": 0.2}}) == ["fit"]
    assert after_first.run("scale", PARAMS | {"prepare": {"scale": 2}}) == ["prepare", "check", "fit"]


def test_what_a_workstation_computed_the_cluster_does_not(toy: Toy) -> None:
    clone = toy.clone("workstation")
    toy.dvc(clone, "repro")
    toy.dvc(clone, "push", "--run-cache")
    assert toy.ran() == STAGES
    assert toy.run("cluster") == []


def test_what_the_cluster_computed_a_workstation_does_not(after_first: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    toy = after_first
    clone = toy.clone("workstation")
    (clone / "dvc.lock").write_bytes((toy.root / "runs/first/fit/lock").read_bytes())
    toy.dvc(clone, "pull")
    capsys.readouterr()
    toy.dvc(clone, "status")
    assert "up to date" in capsys.readouterr().out
    toy.dvc(clone, "repro")
    assert toy.ran() == []


def test_outputs_tell_kubeflow_what_was_made(first_run: Toy) -> None:
    toy = first_run
    fit = json.loads((toy.root / "runs/first/fit/executor_output.json").read_text())["artifacts"]
    metrics, model = (fit[name]["artifacts"][0]["metadata"] for name in ("metrics", "model"))
    assert metrics["test.dice.mean"] == 0.5
    assert metrics["step.seconds"] > 0
    assert model["md5"].endswith(".dir")
    assert model["remote"] == toy.remote
    assert (toy.root / "runs/first/check/report").read_text() == "<h1>check</h1>"
    assert (toy.root / "runs/first/check/passed").read_text() == "true"


def test_data_that_fail_the_check_are_a_verdict_with_a_report(toy: Toy) -> None:
    params = PARAMS | {"check": {"minimum": 10**9}}
    toy.step("run", "fetch", None, params)
    toy.step("run", "prepare", "fetch", params)
    outputs = toy.step("run", "check", "prepare", params, *OPTIONS["check"])
    assert (outputs / "passed").read_text() == "false"
    assert (outputs / "report").read_text() == "<h1>check</h1>"
    assert record(toy, "run", "check")["state"] == "rejected"


def test_a_failing_command_fails_the_step_with_its_own_status(before_fit: Toy) -> None:
    toy = before_fit
    command, outputs = toy.command("first", "fit", "check", PARAMS | {"fit": {"exit": 75}})
    done = subprocess.run(command, env=toy.environment(), cwd=toy.root, capture_output=True, text=True)
    assert done.returncode == 75
    assert done.stderr.splitlines()[-1] == "step: stage fit: failed to run: python program.py fit, exited with 75"
    assert not (outputs / "executor_output.json").exists()
    failed = record(toy, "first", "fit")
    assert (failed["state"], "exited with 75" in failed["reason"]) == ("failed", True)


@pytest.mark.parametrize("status", [1, 2])
def test_what_a_user_got_wrong_is_not_tried_again_and_stops_the_run(toy: Toy, status: int) -> None:
    """Kubeflow tries whatever ends badly again: so the step ends well, none after it runs, and the last one fails."""
    params = PARAMS | {"check": {"minimum": 10, "exit": status}}
    toy.step("run", "fetch", None, params)
    toy.step("run", "prepare", "fetch", params)
    outputs = toy.step("run", "check", "prepare", params, *OPTIONS["check"])
    assert (outputs / "passed").read_text() == "true"
    assert f"exited with {status}" in (outputs / "report").read_text()
    assert (outputs / "executor_output.json").exists()
    failed = record(toy, "run", "check")
    assert (failed["state"], f"exited with {status}" in failed["reason"]) == ("failed", True)
    toy.ran()
    after = toy.step("run", "fit", "check", params, *OPTIONS["fit"])
    assert toy.ran() == []
    told = executor_input_of(toy.root / "runs/run/conclude", after / "lock")
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.conclude", "--executor-input", json.dumps(told)],
        env=toy.environment(), cwd=toy.root, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("conclude: step check failed, and trying again would not help: stage check: ")


def test_what_may_pass_ends_the_step_with_its_own_status(before_fit: Toy) -> None:
    toy = before_fit
    for status in (70, 74, 75, 137, 143):
        with pytest.raises(StageFailed) as failure:
            toy.step("first", "fit", "check", PARAMS | {"fit": {"exit": status}})
        assert failure.value.status == status
        assert not (toy.root / "runs/first/fit/executor_output.json").exists()


def test_a_program_that_is_killed_is_no_fault_of_the_user(before_fit: Toy) -> None:
    toy = before_fit
    command, _ = toy.command("first", "fit", "check", PARAMS | {"fit": {"kill": signal.SIGKILL.value}})
    done = subprocess.run(command, env=toy.environment(), cwd=toy.root, capture_output=True, text=True)
    assert done.returncode == 137, done.stderr
    assert record(toy, "first", "fit")["state"] == "failed"


def test_a_checker_that_is_killed_has_not_refused_the_data(toy: Toy) -> None:
    """Its verdict may be written by then, and says nothing."""
    params = PARAMS | {"check": {"minimum": 10, "kill": signal.SIGKILL.value}}
    toy.step("run", "fetch", None, params)
    toy.step("run", "prepare", "fetch", params)
    with pytest.raises(StageFailed) as failure:
        toy.step("run", "check", "prepare", params, *OPTIONS["check"])
    assert failure.value.status == 137
    assert record(toy, "run", "check")["state"] == "failed"


@pytest.mark.parametrize("broken", ["find", "push"])
def test_a_run_cache_that_cannot_be_reached_is_recorded(toy: Toy, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import dvc_compat, runcache

    def fail(*_: object) -> None:
        raise ConnectionError("the store closed the connection")

    monkeypatch.setattr(*{"find": (runcache, "find"), "push": (dvc_compat, "push")}[broken], fail)
    with pytest.raises(ConnectionError):
        toy.step("run", "fetch", None)
    failed = record(toy, "run", "fetch")
    assert (failed["state"], failed["reason"]) == ("failed", "the store closed the connection")


def test_a_run_that_succeeded_is_concluded(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines import conclude

    lock = toy.step("run", "fetch", None) / "lock"
    told = executor_input_of(toy.root / "conclude", lock)
    assert conclude.main(["--executor-input", json.dumps(told)]) == 0


@pytest.mark.parametrize(
    ("remote", "expected"),
    [("{root}/remote", "no step has left a record"), ("s3://no-such-bucket-xyz/dvc", "cannot be read: ")],
)
def test_the_exit_handler_has_a_page_where_there_is_no_record(
    toy: Toy, remote: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters, store, disk or image failed before the first record: then its page is what people look at."""
    from pipelines import finish

    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    told = executor_input_of(toy.root / "finish", None)
    place = remote.format(root=toy.root)
    assert finish.main(["--run", "new", "--remote", place, "--executor-input", json.dumps(told)]) == 0
    assert expected in (toy.root / "finish/report").read_text()


def test_the_exit_handler_tells_what_became_of_each_step(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines import finish

    toy.step("run", "fetch", None)
    command, _ = toy.command("run", "prepare", "fetch", PARAMS | {"prepare": {"scale": None}})
    subprocess.run(command, env=toy.environment(), cwd=toy.root, capture_output=True)
    told = executor_input_of(toy.root / "finish", None)
    capsys.readouterr()
    assert finish.main(["--run", "run", "--remote", toy.remote, "--executor-input", json.dumps(told)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["fetch"].split()[1] == "computed"
    assert lines["prepare"].split()[1] == "failed"
    assert lines["prepare"].endswith("exited with 1")
    assert "<td class=bad>failed" in (toy.root / "finish/report").read_text()


@pytest.mark.parametrize("fault", ["changed", "gone"])
def test_a_bad_input_stops_the_step_before_its_program_runs(toy: Toy, fault: str) -> None:
    toy.step("run", "fetch", None)
    raw = stored(toy, 200_000)
    raw.chmod(0o644)
    raw.write_bytes(b"x" * 200_000) if fault == "changed" else raw.unlink()
    toy.ran()
    with pytest.raises(StageFailed, match="stage prepare: its inputs cannot be pulled"):
        toy.step("run", "prepare", "fetch")
    assert toy.ran() == []


def test_an_output_lost_from_the_remote_is_computed_again(after_first: Toy) -> None:
    toy = after_first
    stored(toy, 100).unlink()
    assert toy.run("second") == ["fit"]
    assert stored(toy, 100).exists()


def test_a_stage_that_acts_on_the_outside_world_always_runs(after_first: Toy) -> None:
    toy = after_first
    toy.step("first", "fit", "check", PARAMS, "--always")
    assert toy.ran() == ["fit"]


def test_sigterm_reaches_the_program(after_first: Toy) -> None:
    toy = after_first
    command, _ = toy.command("first", "fit", "check", PARAMS | {"fit": {"sleep": 60}})
    step = subprocess.Popen(command, env=toy.environment(), cwd=toy.root)
    while toy.ran() != ["fit"]:
        assert step.poll() is None
        time.sleep(0.05)
    step.send_signal(signal.SIGTERM)
    assert step.wait(20) != 0
    assert not subprocess.run(["pgrep", "-f", f"{toy.root}.*program.py"], capture_output=True, text=True).stdout


def test_sigterm_ends_a_step_that_waits_for_a_silent_store(toy_on_s3: Toy) -> None:
    """It has a program to save nothing in, and would else wait for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        toy_on_s3.env = {**toy_on_s3.env, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        temporary = toy_on_s3.root / "tmp"
        temporary.mkdir()
        toy_on_s3.env["TMPDIR"] = str(temporary)
        command, _ = toy_on_s3.command("first", "fetch", None, PARAMS)
        step = subprocess.Popen(command, env=toy_on_s3.environment(), cwd=toy_on_s3.root)
        silent.settimeout(60)
        asked, _ = silent.accept()
        with asked:
            step.send_signal(signal.SIGTERM)
            assert step.wait(10) == 128 + signal.SIGTERM
    assert toy_on_s3.ran() == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("fit", "status"), [({"rate": 0.2}, 0), ({"exit": 1}, 0), ({"exit": 75}, 75), ({"sleep": 60}, 128 + signal.SIGTERM)]
)
def test_a_step_that_is_given_no_folder_leaves_none_behind(before_fit: Toy, fit: dict, status: int) -> None:
    """As on a workstation: succeeded, failed for good, failed, and stopped while its program runs."""
    toy, temporary = before_fit, before_fit.root / "tmp"
    temporary.mkdir()
    toy.env = {"TMPDIR": str(temporary)}
    command, _ = toy.command("first", "fit", "check", PARAMS | {"fit": fit})
    step = subprocess.Popen(command, env=toy.environment(), cwd=toy.root)
    if "sleep" in fit:
        while toy.ran() != ["fit"]:
            assert step.poll() is None
            time.sleep(0.05)
        assert list(temporary.iterdir())
        step.send_signal(signal.SIGTERM)
    assert step.wait(60) == status
    assert list(temporary.iterdir()) == []


def test_a_folder_that_is_given_stays(before_fit: Toy) -> None:
    given = before_fit.root / "given"
    before_fit.step("first", "fit", "check", PARAMS | {"fit": {"rate": 0.2}}, "--workspace", str(given))
    assert (given / "model/weights.bin").is_file()


@pytest.mark.parametrize("remote", ["{remote}-typo/dvc", "/proc/none", "{root}/file/dvc"])
def test_nothing_is_computed_that_cannot_be_kept(remote: str, toy_on_s3: Toy) -> None:
    """A bucket that is not there, a place without rights, a file in the way."""
    toy = toy_on_s3
    (toy.root / "file").write_text("")
    toy.remote = remote.format(remote=toy.remote.removesuffix("/dvc"), root=toy.root)
    command, outputs = toy.command("first", "fetch", None, PARAMS)
    done = subprocess.run(command, env=toy.environment(), cwd=toy.root, capture_output=True, text=True)
    assert (done.returncode, toy.ran()) == (0, []), done.stderr
    failed = FailedForGood.read(outputs / "lock")
    assert failed is not None
    assert failed.reason.startswith(f"stage fetch: the remote {toy.remote} cannot be written, and nothing was run (")
    assert failed.reason.endswith(
        "; correct dvc_remote and the store's address in the settings, or the keys in the secret"
    )
    assert str(failed) in done.stderr


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectionError("reset"), 74),
        (TimeoutError("slow"), 74),
        (OSError(errno.EIO, "Input/output error"), 74),
        (RuntimeError("what the store's client raises"), 74),
        (PermissionError(errno.EACCES, "Access Denied"), 1),
        (FileNotFoundError("The specified bucket does not exist"), 1),
        (OSError(errno.EROFS, "Read-only file system"), 1),
    ],
)
def test_a_store_that_may_come_back_is_asked_again_and_one_that_is_forbidden_is_not(
    error: Exception, status: int
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(StageFailed) as raised:
        require_writable(argparse.Namespace(stage="fetch", remote="s3://bucket/dvc"), fail)
    assert raised.value.status == status


def test_locks_of_different_runs_are_not_mixed(tmp_path: Path) -> None:
    write_lock(tmp_path / "a", {"fetch": {"cmd": "x"}, "prepare": {"cmd": "p"}})
    write_lock(tmp_path / "b", {"fetch": {"cmd": "y"}})
    assert merge_locks([tmp_path / "a"])["prepare"] == {"cmd": "p"}
    with pytest.raises(ValueError, match="stage fetch differs"):
        merge_locks([tmp_path / "a", tmp_path / "b"])
