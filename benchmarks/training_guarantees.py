"""What each of a training's guarantees costs, in per cent of its time, on HyM-UNet small.

Determinism: steps with and without a fixed order of sums, in pairs, in processor time of one thread. Checkpoints and
the journal's flush: seconds on the clock over the default interval between two. Tracking: the processor time of the
training that goes into telling, in every step here, and the processor time of the deliverer beside it, with a live
MLflow server and with one that accepts and never answers. It is an upper bound of what tracking can cost, and does not
depend on what else the machine does.
"""

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.training_loops import our_learner

START_UP = 40.0  # seconds until the deliverer has certainly imported MLflow
Spread = dict[str, float]


def spread(values: list[float]) -> Spread:
    """Median and quartiles, in per cent."""
    low, middle, high = statistics.quantiles([100 * value for value in values], n=4)
    return {"median": round(middle, 3), "low": round(low, 3), "high": round(high, 3)}


def guarantees(folder: Path, batch_size: int, pairs: int) -> dict[str, Spread | float]:
    from hymunet.training.checkpoint import Checkpoints
    from hymunet.training.checkpoint_store import Folder
    from hymunet.training.tracking.journal import Journal

    torch.set_num_threads(1)
    learner = our_learner(folder, "small", batch_size)
    batches = learner.batches()

    def step(deterministic: bool) -> float:
        torch.use_deterministic_algorithms(deterministic)
        batch = next(batches)
        return _timed(time.process_time, lambda: learner.learn(batch))

    for warm in (True, False):
        step(warm)
    fixed: list[float] = []
    free: list[float] = []
    for pair in range(pairs):
        for deterministic in (True, False) if pair % 2 else (False, True):
            (fixed if deterministic else free).append(step(deterministic))
    seconds = statistics.median(fixed)
    checkpoints = Checkpoints(Folder(folder / "checkpoints"), {})
    saves = [_timed(time.perf_counter, lambda: checkpoints.save(learner.checkpoint())) for _ in range(15)]
    with Journal(folder / "journal", {}) as journal:
        values = {"loss": 0.5, "images_per_second": 40.0}
        lines = [_timed(time.perf_counter, lambda n=n: journal.metrics(n, values)) for n in range(2000)]  # type: ignore[misc]
        syncs = [_timed(time.perf_counter, journal.sync) for _ in range(15)]
    interval = 60 * learner.train_params.checkpoint_minutes
    shares: dict[str, Spread] = {
        "determinism": spread([a / b - 1 for a, b in zip(fixed, free, strict=True)]),
        "checkpoints": spread([save / interval for save in saves]),
        "journal": spread([statistics.mean(lines) / 10 / seconds + sync / interval for sync in syncs]),
    }
    total = sum(share["median"] for share in shares.values())
    return {
        **shares,
        "total": round(total, 3),
        "pairs": pairs,
        "checkpoint_seconds": round(statistics.median(saves), 3),
    }


def tracking(folder: Path, batch_size: int, seconds: float) -> dict[str, Any]:
    """Per server: what telling costs the training, and what the deliverer takes of one processor, start-up apart."""
    import psutil

    from hymunet.training.tracking.journal import DeliveredJournal

    torch.set_num_threads(1)
    learner = our_learner(folder, "small", batch_size)
    batches = learner.batches()
    result: dict[str, Any] = {"seconds": seconds}
    for name, server in {"live": live_server(folder), "hanging": hanging_server()}.items():
        with ExitStack() as stack:
            os.environ["MLFLOW_TRACKING_URI"] = stack.enter_context(server)
            tracker = stack.enter_context(DeliveredJournal(folder / name, {"params": {}, "tags": {}}))
            stack.callback(tracker.deliverer.kill)  # the rest need not arrive
            deliverer = psutil.Process(tracker.deliverer.pid)
            learning = telling = 0.0
            started, begin = 0.0, time.monotonic()
            while (now := time.monotonic() - begin) < START_UP + seconds:
                if now < START_UP:
                    started = sum(deliverer.cpu_times()[:2])
                batch = next(batches)
                learning += _timed(time.process_time, lambda: learner.learn(batch))  # noqa: B023
                values = {"loss": 0.5, "images_per_second": 40.0}
                telling += _timed(time.process_time, lambda: tracker.metrics(learner.progress.step, values))  # noqa: B023
            delivering = sum(deliverer.cpu_times()[:2]) - started
        result[name] = {
            "telling_per_cent_of_a_step": round(100 * telling / learning, 4),
            "deliverer_start_seconds": round(started, 2),
            "deliverer_per_cent_of_one_processor": round(100 * delivering / (now - START_UP), 3),
        }
    return result


@contextmanager
def live_server(folder: Path) -> Iterator[str]:
    """MLflow on SQLite at the lowest priority: in a real installation it has processors of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["nice", "-n", "19", sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=folder, env=environment)
    try:
        uri = f"http://127.0.0.1:{port}"
        while process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{uri}/health", timeout=2).close()
                break
            time.sleep(0.2)
        else:
            raise RuntimeError((folder / "server.log").read_text()[-2000:])
        yield uri
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def hanging_server() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _timed(clock: Callable[[], float], action: Callable[[], Any]) -> float:
    begin = clock()
    action()
    return clock() - begin
