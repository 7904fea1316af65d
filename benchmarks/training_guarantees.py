"""What each of a training's guarantees costs, in per cent of its time, on HyM-UNet small.

Determinism: steps with and without a fixed order of sums, in pairs, in processor time of one thread. Checkpoints and
the journal's flush: seconds on the clock over the default interval between two. Tracking: blocks of steps on all cores
with no tracker, with one whose deliverer talks to a live MLflow server, and with one whose server accepts and never
answers; the deliverers of the other blocks are halted meanwhile. Metrics are told in every step, ten times as often as
in a training.
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

BLOCK = 4  # steps
Spread = dict[str, float]


def spread(values: list[float]) -> Spread:
    """Median and quartiles, in per cent."""
    low, middle, high = statistics.quantiles([100 * value for value in values], n=4)
    return {"median": round(middle, 3), "low": round(low, 3), "high": round(high, 3)}


def guarantees(folder: Path, batch_size: int, pairs: int) -> dict[str, Spread | float]:
    from hymunet.training.checkpoint import Checkpoints
    from hymunet.training.storage import Folder
    from hymunet.training.tracking import Journal

    torch.set_num_threads(1)
    learner = our_learner(folder, "small", batch_size)
    batches = learner.batches()

    def step(deterministic: bool) -> float:
        torch.use_deterministic_algorithms(deterministic)
        images, masks = next(batches)
        return _timed(time.process_time, lambda: learner.learn(images, masks))

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
    interval = 60 * learner.train.checkpoint_minutes
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


def tracking(folder: Path, batch_size: int, rounds: int) -> dict[str, Any]:
    """Per cent that a step takes longer than without a tracker, per block of steps."""
    from hymunet.training.tracking import DeliveredJournal

    torch.set_num_threads(os.cpu_count() or 1)
    learner = our_learner(folder, "small", batch_size)
    batches = learner.batches()
    with ExitStack() as stack:
        servers = {"live": stack.enter_context(live_server(folder)), "hanging": stack.enter_context(hanging_server())}
        trackers = {}
        for name, uri in servers.items():
            os.environ["MLFLOW_TRACKING_URI"] = uri
            trackers[name] = stack.enter_context(DeliveredJournal(folder / name, {"params": {}, "tags": {}}))
            stack.callback(trackers[name].deliverer.kill)  # the rest need not arrive
        time.sleep(20)  # the deliverers start
        seconds: dict[str, list[float]] = {name: [] for name in ("off", *trackers)}
        order = list(seconds)
        for turn in range(rounds + 1):
            for name in order:
                for other, tracker in trackers.items():
                    tracker.deliverer.send_signal(signal.SIGCONT if other == name else signal.SIGSTOP)
                spent = []
                for _ in range(BLOCK):
                    images, masks = next(batches)
                    begin = time.perf_counter()
                    learner.learn(images, masks)
                    if name in trackers:
                        trackers[name].metrics(learner.progress.step, {"loss": 0.5, "images_per_second": 40.0})
                    spent.append(time.perf_counter() - begin)
                if turn:
                    seconds[name].append(statistics.fmean(spent))
            order.append(order.pop(0))
    off = seconds["off"]
    return {
        **{name: spread([a / b - 1 for a, b in zip(seconds[name], off, strict=True)]) for name in trackers},
        "off_against_itself": spread([a / b - 1 for a, b in zip(off[1:], off[:-1], strict=True)]),
        "blocks": rounds,
        "steps_a_block": BLOCK,
    }


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
