"""Metrics on their way to a real MLflow server on PostgreSQL: nothing lost, nothing doubled, one run, no waiting."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from hymunet.training.checkpoint_store import Storage, open_storage
from hymunet.training.tracking import delivery, worker
from hymunet.training.tracking.journal import DeliveredJournal, Journal
from tests.integration.training.proxy import FAILING, FAULTS, HEALTHY, REFUSING, SWALLOWING, Proxy
from tests.support.servers import start_mlflow
from tests.support.training_data import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
DESCRIPTION = {"params": {"train.epochs": 3, "model.name": "unet"}, "tags": {"hymunet.data_sha256": "d"}}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    worker.prepare_mlflow()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(worker, "BACKOFF", (0.05,))
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"delivery-{uuid.uuid4().hex[:8]}")


def write_journal(folder: Path, steps: range, status: str = "FINISHED", storage: Storage | None = None) -> None:
    with Journal(folder, DESCRIPTION, storage) as journal:
        for step in steps:
            journal.metrics(step, {"loss": 1 / (step + 1)})
            if step % 10 == 0:
                journal.metrics(step, {"validation_dice": step / 1000, "epoch_loss": 0.5})
        journal.finish(status)


def expected_points(steps: range) -> Counter:
    loss = [("loss", step, 1 / (step + 1)) for step in steps]
    epochs = [("validation_dice", step, step / 1000) for step in steps[::10]]
    epochs += [("epoch_loss", step, 0.5) for step in steps[::10]]
    return Counter(loss + epochs)


def delivered(uri: str, key: str) -> tuple[list, Counter]:
    """The runs of this training and every point in their histories, asked of the server itself."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    runs = client.search_runs([experiment.experiment_id], f"tags.`hymunet.run_key` = '{key}'") if experiment else []
    points: Counter = Counter()
    for run in runs:
        for metric in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, metric)
            points.update((metric, point.step, point.value) for point in history if not metric.startswith("system/"))
    return runs, points


def deliver_with_restarts(folder: Path, source: random.Random) -> int:
    """As a process that dies now and then, and sometimes loses its notes; returns how often it failed."""
    failures = 0
    deliverer = delivery.Delivery(folder)
    while True:
        if source.random() < 0.2:
            if source.random() < 0.5:
                (folder / "delivered.json").unlink(missing_ok=True)
            deliverer = delivery.Delivery(folder)
        try:
            if not deliverer.step():
                return failures
        except Exception:
            failures += 1
            assert failures < 200


@pytest.mark.parametrize("fault", ["all of them", *(pytest.param(fault, marks=pytest.mark.slow) for fault in FAULTS)])
def test_faults_lose_nothing_and_double_nothing(mlflow_server, tmp_path, monkeypatch, fault):
    source = random.Random(fault)
    monkeypatch.setattr(delivery, "BATCH", 20)
    folder, steps = tmp_path / f"key-{uuid.uuid4().hex[:8]}", range(120)
    write_journal(folder, steps)

    def mood(number: int) -> str:
        if source.random() < 0.7:
            return HEALTHY
        return source.choice((REFUSING, SWALLOWING, FAILING)) if fault == "all of them" else fault

    with Proxy(mlflow_server.uri, mood) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
        failures = deliver_with_restarts(folder, source)
    assert failures > 0
    runs, points = delivered(mlflow_server.uri, folder.name)
    assert len(runs) == 1
    assert points == expected_points(steps)
    assert runs[0].info.status == "FINISHED"
    assert runs[0].data.params == {"train.epochs": "3", "model.name": "unet"}


@pytest.mark.parametrize(
    ("fault", "count", "most"),
    [(HEALTHY, 501, delivery.BATCH), (SWALLOWING, 123, 50)],
    ids=["one more than fits", "several, one unheard of"],
)
def test_a_record_of_more_metrics_than_a_request_holds_arrives_whole_and_in_its_order(
    mlflow_server, tmp_path, monkeypatch, fault, count, most
):
    """A model with a metric of each of its layers: none is lost, none comes twice, and what follows it follows."""
    folder, requests = tmp_path / f"key-{uuid.uuid4().hex[:8]}", []
    monkeypatch.setattr(delivery, "BATCH", most)  # what was not heard of is asked for, metric by metric
    wide = {f"layer/{number}": number / 7 for number in range(count)}
    with Journal(folder, DESCRIPTION) as journal:
        journal.metrics(1, {"loss": 1.0})
        journal.metrics(2, {"loss": 0.5, **wide})
        journal.metrics(3, {"loss": 0.25})
        journal.finish("FINISHED")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    deliverer = delivery.Delivery(folder)
    deliverer.connect()
    sent_by_client = deliverer.client.log_batch

    def log_batch(run_id, metrics=(), **others):
        requests.append([(point.key, point.step) for point in metrics])
        sent_by_client(run_id, metrics=metrics, **others)
        if fault == SWALLOWING and len(requests) == 3:  # the second part of the record arrived, nobody heard of it
            raise ConnectionError("no answer")

    monkeypatch.setattr(deliverer.client, "log_batch", log_batch)
    monkeypatch.setattr(deliverer, "connect", lambda: None)
    assert worker.drain(deliverer) is None
    sent = [point for points in requests for point in points]
    assert max(map(len, requests)) <= delivery.BATCH
    assert [step for _, step in sent] == sorted(step for _, step in sent)
    runs, points = delivered(mlflow_server.uri, folder.name)
    assert points == Counter(
        [("loss", 1, 1.0), ("loss", 2, 0.5), ("loss", 3, 0.25), *((key, 2, value) for key, value in wide.items())]
    )
    assert [run.info.status for run in runs] == ["FINISHED"]
    assert deliverer.waiting() == 0


def test_one_training_is_one_run_however_often_it_restarts(mlflow_server, tmp_path, monkeypatch):
    """Even when the disk with the journal is gone in between: the points of before are asked of the server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    key = f"key-{uuid.uuid4().hex[:8]}"
    for life, steps in enumerate((range(30), range(20, 60), range(50, 80))):
        folder = tmp_path / ("first" if life < 2 else "another machine") / key
        write_journal(folder, steps, "KILLED" if life < 2 else "FINISHED")
        assert worker.drain(delivery.Delivery(folder)) is None
    runs, points = delivered(mlflow_server.uri, key)
    assert len(runs) == 1
    assert points == expected_points(range(80))
    assert runs[0].info.status == "FINISHED"


def test_a_journal_that_its_training_delivers_is_left_to_it(mlflow_server, tmp_path, monkeypatch, capsys):
    keys = {name: f"{name}-{uuid.uuid4().hex[:8]}" for name in ("running", "ended")}
    for key in keys.values():
        write_journal(tmp_path / key, range(10))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    with worker.alone(tmp_path / keys["running"]):
        assert worker.deliver_all(tmp_path) == 0
    assert f"{keys['running']}: another process delivers it" in capsys.readouterr().out
    assert delivered(mlflow_server.uri, keys["running"]) == ([], Counter())
    assert delivered(mlflow_server.uri, keys["ended"])[1] == expected_points(range(10))


def test_what_a_pod_could_not_deliver_is_delivered_from_elsewhere(
    mlflow_server, s3_server, tmp_path, monkeypatch, capfd
):
    """MLflow is away until after the pod's end, and the pod's disk ends with it; the store has the journal."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    place, key = f"s3://{s3_server.create_bucket('kept-journals')}/team/runs", f"key-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(worker, "GIVE_UP", 0.1)
    write_journal(tmp_path / "pod" / key, range(50), storage=open_storage(place, key))
    begin = time.monotonic()
    assert worker.deliver_all(tmp_path / "pod") == 1
    assert time.monotonic() - begin < 15, "it gives up after GIVE_UP"
    shutil.rmtree(tmp_path / "pod")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    assert worker.deliver_all(tmp_path / "home", place) == 0
    runs, points = delivered(mlflow_server.uri, key)
    assert len(runs) == 1
    assert points == expected_points(range(50))


def test_an_injected_run_is_adopted(mlflow_server, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_server.uri)
    experiment = client.create_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"])
    run_id = client.create_run(experiment, run_name="of the pipeline").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    folder = tmp_path / f"key-{uuid.uuid4().hex[:8]}"
    write_journal(folder, range(20))
    assert worker.drain(delivery.Delivery(folder)) is None
    runs, points = delivered(mlflow_server.uri, folder.name)
    assert [run.info.run_id for run in runs] == [run_id]
    assert points == expected_points(range(20))


def test_reports_become_artifacts(mlflow_server, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    reports = tmp_path / "reports"
    (reports / "examples").mkdir(parents=True)
    (reports / "curves.png").write_bytes(b"picture")
    (reports / "examples" / "epoch-0001.png").write_bytes(b"picture")
    folder = tmp_path / f"key-{uuid.uuid4().hex[:8]}"
    with Journal(folder, DESCRIPTION) as journal:
        journal.reports(reports)
        journal.reports(tmp_path / "gone")
    assert worker.drain(delivery.Delivery(folder)) is None
    runs, _ = delivered(mlflow_server.uri, folder.name)
    client = MlflowClient(mlflow_server.uri)
    assert {entry.path for entry in client.list_artifacts(runs[0].info.run_id, "training")} == {
        "training/curves.png",
        "training/examples",
    }


def test_a_server_that_never_answers_costs_the_training_nothing_and_delivery_follows_later(
    mlflow_server, tmp_path, monkeypatch
):
    """With the real deliverer beside it; the name does not even resolve. Then by hand: `hymunet deliver`."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://no-such-host.invalid:5000")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr("hymunet.training.tracking.journal.PATIENCE", 3.0)
    folder = tmp_path / "journal" / f"key-{uuid.uuid4().hex[:8]}"
    spent = 0.0
    with DeliveredJournal(folder, DESCRIPTION) as tracker:
        for step in range(200):
            begin = time.perf_counter()
            tracker.metrics(step, {"loss": 1 / (step + 1)})
            if step % 10 == 0:
                tracker.metrics(step, {"validation_dice": step / 1000, "epoch_loss": 0.5})
            spent += time.perf_counter() - begin
        tracker.finish("FINISHED")
    assert spent / 200 < 2e-3  # seconds a step; a training step takes hundreds of milliseconds
    command = [sys.executable, "-m", "hymunet.training.tracking.worker", "--journals", str(folder.parent)]
    for attempt in range(2):
        env = {**os.environ, "MLFLOW_TRACKING_URI": mlflow_server.uri}
        result = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=200)
        left = json.loads((folder / "delivered.json").read_text())["offset"]
        assert left == (folder / "journal.jsonl").stat().st_size
        assert "records delivered" in result.stdout
        assert attempt == 0 or " 0 of 0 records" in result.stdout
    runs, points = delivered(mlflow_server.uri, folder.name)
    assert len(runs) == 1
    assert points == expected_points(range(200))


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_requests_and_back(postgresql, tmp_path, monkeypatch):
    """SIGKILL while it works, SIGSTOP for longer than a client waits; deliverer, server and database are the real ones.

    Each fault falls a few milliseconds after a request has come in; the next one waits until the server has been back
    for some requests. The training writes on until the last is over.
    """
    running = start_mlflow(postgresql.create_database("killed_mlflow"), tmp_path)
    source, faults = random.Random(0), ThreadPoolExecutor(1)
    falling: list[Future[None]] = []
    plan = iter([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL])
    requests_until_blow = 3

    def strike(kind: int) -> None:
        time.sleep(source.uniform(0, 0.03))
        if kind == signal.SIGKILL:
            running.server.stop()
            running.server.start()
        else:
            running.server.send(signal.SIGSTOP)
            time.sleep(6)
            running.server.send(signal.SIGCONT)

    def mood(_: int) -> str:
        nonlocal requests_until_blow
        if not falling or falling[-1].done():
            requests_until_blow -= 1
            if requests_until_blow == 0 and (kind := next(plan, None)) is not None:
                falling.append(faults.submit(strike, kind))
                requests_until_blow = source.randint(2, 4)
        return HEALTHY

    try:
        with Proxy(running.uri, mood) as proxy:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
            monkeypatch.setenv("PYTHONPATH", str(ROOT))
            folder, step = tmp_path / f"key-{uuid.uuid4().hex[:8]}", 0
            with DeliveredJournal(folder, DESCRIPTION) as journal:
                while len(falling) < 4 or not falling[-1].done():
                    journal.metrics(step, {"loss": 1 / (step + 1)})
                    if step % 10 == 0:
                        journal.metrics(step, {"validation_dice": step / 1000, "epoch_loss": 0.5})
                    step += 1
                    time.sleep(0.02)
                for fault in falling:
                    fault.result()
                journal.finish("FINISHED")
            assert proxy.cut > 0
        runs, points = delivered(running.uri, folder.name)
        assert len(runs) == 1
        assert points == expected_points(range(step))
        assert runs[0].info.status == "FINISHED"
    finally:
        faults.shutdown()
        running.server.stop()
