"""submit, schedule and status, against a server that checks the v2beta1 contract: not a Kubeflow, but its API's own
models.
"""

import time
from pathlib import Path

import pytest

from pipelines import __main__ as command
from pipelines import cluster
from tests.integration.pipelines.kubeflow_api import TOKEN, Kubeflow
from tests.support.servers import free_port

pytest.importorskip("kfp", reason="needs the extra `pipelines`")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster.Cluster.__init__, "__defaults__", (0.01,))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hymunet.params import read_yaml
    from pipelines.settings import load
    from pipelines.training import compile_pipeline

    path = tmp_path_factory.mktemp("package") / "pipeline.yaml"
    compile_pipeline(load(ROOT / "infra/kubeflow/settings.yaml"), read_yaml(ROOT / "params.yaml"), path)
    return path


@pytest.fixture
def compiled(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_compiled", lambda args, output, for_cluster: package)


def run(*arguments: str) -> int:
    return command.main(list(arguments))


def test_submit_and_follow_a_run_that_succeeds(compiled: None, capsys: pytest.CaptureFixture[str]) -> None:
    with Kubeflow(["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]) as server:
        assert run("submit", "--host", server.url, "--experiment", "demo", "--name", "first", "--wait") == 0
        [submitted] = server.runs.values()
    assert submitted.display_name == "first"
    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("train ")] == [
        "PENDING",
        "RUNNING",
        "SUCCEEDED",
    ]
    assert "driver" not in out


def test_a_run_that_fails_is_exit_code_1_with_the_steps_log(compiled: None, capsys: pytest.CaptureFixture[str]) -> None:
    with Kubeflow(["RUNNING", "FAILED"]) as server:
        assert run("submit", "--host", server.url, "--wait") == 1
    out = capsys.readouterr().out
    assert "  | step: train-pod-1 gave up" in out
    assert out.splitlines()[-1] == "run run-0: FAILED: step train failed"


def test_a_cancelled_run_is_not_waited_for_forever(compiled: None) -> None:
    with Kubeflow(["RUNNING", "CANCELED"]) as server:
        assert run("submit", "--host", server.url, "--wait") == 1


def test_a_server_error_midway_is_outlasted(compiled: None, capsys: pytest.CaptureFixture[str]) -> None:
    with Kubeflow(["RUNNING", "SUCCEEDED"]) as server:
        server.faults = [503, 502]
        assert run("submit", "--host", server.url, "--wait") == 0
    assert "the server failed (503): upstream connect error; trying again" in capsys.readouterr().err


def test_a_server_that_stays_broken_is_given_up(compiled: None) -> None:
    with Kubeflow(["RUNNING"], faults=[500] * 50) as server, pytest.raises(ValueError, match="gave up after 10 tries"):
        run("submit", "--host", server.url, "--wait")


def test_credentials(compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with Kubeflow(["SUCCEEDED"], token=TOKEN) as server:
        monkeypatch.setenv("KFP_TOKEN", TOKEN)
        assert run("submit", "--host", server.url, "--namespace", "team", "--auth", "token", "--wait") == 0
        monkeypatch.setenv("KFP_TOKEN", "another")
        with pytest.raises(ValueError, match=r"not allowed \(401\): Request header error.*see --auth"):
            run("submit", "--host", server.url, "--namespace", "team", "--auth", "token")
        monkeypatch.delenv("KFP_TOKEN")
        with pytest.raises(ValueError, match="set KFP_TOKEN"):
            run("submit", "--host", server.url, "--auth", "token")


def test_a_host_that_does_not_answer(compiled: None) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match="no answer"):
        run("status", "run-0", "--host", f"http://127.0.0.1:{free_port()}", "--namespace", "team")
    assert time.monotonic() - started < 30


def test_no_host_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    with pytest.raises(ValueError, match="--host"):
        run("status", "run-0")


def test_schedule(compiled: None, capsys: pytest.CaptureFixture[str]) -> None:
    with Kubeflow(["SUCCEEDED"]) as server:
        assert run("schedule", "--host", server.url, "--name", "weekly", "--cron", "0 0 3 * * 1") == 0
        [made] = server.recurring.values()
        with pytest.raises(ValueError, match="six fields"):
            run("schedule", "--host", server.url, "--name", "weekly", "--cron", "0 3 * * 1")
    assert made.trigger.cron_schedule.cron == "0 0 3 * * 1"
    assert (made.mode, str(made.max_concurrency)) == ("ENABLE", "1")


def test_status_tells_going_from_done(compiled: None, capsys: pytest.CaptureFixture[str]) -> None:
    with Kubeflow(["RUNNING", "SUCCEEDED"]) as server:
        run("submit", "--host", server.url)
        assert run("status", "run-0", "--host", server.url) == 3
        assert run("status", "run-0", "--host", server.url) == 0
        with pytest.raises(ValueError, match=r"refused \(404\)"):
            run("status", "run-9", "--host", server.url)
    assert "train        SUCCEEDED" in capsys.readouterr().out
