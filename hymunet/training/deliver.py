"""Delivers training journals to MLflow: beside a running training, or later by hand.

Every point arrives once, in one run per training, whatever fails on the way. How: the run is found by its tag
`hymunet.run_key` (or adopted from MLFLOW_RUN_ID) before one is created; how far the journal is delivered is noted
after each batch; and before a batch is sent again, by this process or another, the server is asked which points it has.
"""

import argparse
import contextlib
import fcntl
import json
import logging
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hymunet import atomic
from hymunet.training.tracking import JOURNAL, parse

log = logging.getLogger("hymunet.tracking")

DEFAULT_URI = "sqlite:///mlflow.db"
RUN_KEY_TAG = "hymunet.run_key"
BATCH = 500  # points in one request; MLflow takes up to 1,000
POLL, SAMPLE = 2.0, 15.0  # seconds between looks at the journal, and at the machine
BACKOFF = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds after the first, second, … failure in a row
GIVE_UP = 20.0  # seconds without success after which a delivery by hand, or the end of a training, leaves the rest


class Delivery:
    """One journal on its way to one run. `step` sends what is new; it raises when the server cannot take it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder / "delivered.json"
        self.offset, self.run_id = 0, ""
        with contextlib.suppress(OSError, ValueError, KeyError):
            state = json.loads(self.place.read_text())
            if state["uri"] == tracking_uri():
                self.offset, self.run_id = state["offset"], state["run_id"]
        self.confirmed: dict[str, set[int]] = {}  # steps of each metric that the server is known to have
        self.connected = False

    def waiting(self) -> int:
        return len(self._pending()[0])

    def step(self) -> bool:
        """Sends one batch; False when there was nothing to send."""
        records, offsets = self._pending()
        if not records:
            return False
        self._connect()
        count = self._send(records)
        self.offset = offsets[count - 1]
        state = {"uri": tracking_uri(), "run_id": self.run_id, "offset": self.offset}
        atomic.write(self.place, json.dumps(state))
        return True

    def _pending(self) -> tuple[list[dict[str, Any]], list[int]]:
        """Whole lines not yet delivered, and where each ends."""
        records, offsets = [], []
        with (self.folder / JOURNAL).open("rb") as file:
            file.seek(self.offset)
            end = self.offset
            for line in file:
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                records.append((parse(line) or [{}])[0])
                offsets.append(end)
        return records, offsets

    def _connect(self) -> None:
        if self.connected:
            return
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri())
        key = self.folder.name
        self.run_id = os.environ.get("MLFLOW_RUN_ID") or self.run_id or self._find(key)
        if self.client.get_run(self.run_id).data.tags.get(RUN_KEY_TAG) != key:
            self.client.set_tag(self.run_id, RUN_KEY_TAG, key)
        self.connected = True

    def _find(self, key: str) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "hymunet")
        experiment = self.client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self.client.create_experiment(name)
        found = self.client.search_runs([experiment_id], f"tags.`{RUN_KEY_TAG}` = '{key}'", order_by=["start_time ASC"])
        if found:
            return found[0].info.run_id
        return self.client.create_run(experiment_id, tags={RUN_KEY_TAG: key}, run_name=f"train-{key[:8]}").info.run_id

    def _send(self, records: list[dict[str, Any]]) -> int:
        """Sends the first record that is no metric, or as many metrics as fit a request; returns how many records."""
        from mlflow.entities import Metric, Param, RunTag

        first = records[0]
        if "run" in first:
            params = [Param(key, str(value)) for key, value in first["run"].get("params", {}).items()]
            tags = [RunTag(key, str(value)) for key, value in first["run"].get("tags", {}).items()]
            self.client.log_batch(self.run_id, params=params, tags=tags)
            self.client.update_run(self.run_id, "RUNNING")
        elif "status" in first:
            self.client.set_terminated(self.run_id, first["status"], end_time=first["time"])
        elif "reports" in first and Path(first["reports"]).is_dir():
            self.client.log_artifacts(self.run_id, first["reports"], "training")
        if "metrics" not in first:
            return 1
        points: list[Metric] = []
        count = 0
        for record in records:
            fresh = [
                Metric(key, value, record["time"], record["step"])
                for key, value in record.get("metrics", {}).items()
                if record["step"] not in self._confirmed(key)
            ]
            if "metrics" not in record or len(points) + len(fresh) > BATCH:
                break
            points += fresh
            count += 1
        try:
            if points:
                self.client.log_batch(self.run_id, metrics=points)
        except BaseException:
            self.confirmed.clear()  # some of them may have arrived
            raise
        for point in points:
            self.confirmed[point.key].add(point.step)
        return count

    def _confirmed(self, key: str) -> set[int]:
        if key not in self.confirmed:
            self.confirmed[key] = {point.step for point in self.client.get_metric_history(self.run_id, key)}
        return self.confirmed[key]


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def prepare_mlflow() -> None:
    """Short timeouts: this program retries by itself, and a client that stalls for minutes would hide the end."""
    for name, value in {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process delivers this journal."""
    with (folder / "delivery.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def drain(delivery: Delivery, give_up: float = GIVE_UP) -> str | None:
    """Delivers all there is. After `give_up` seconds without success: the reason, in one line."""
    failures, last_success = 0, time.monotonic()
    while True:
        try:
            if not delivery.step():
                return None
            failures, last_success = 0, time.monotonic()
        except Exception as error:  # whatever the client raises, the journal keeps the points
            if time.monotonic() - last_success > give_up:
                return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            time.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])
            failures += 1


def follow(folder: Path) -> int:
    """Delivers a journal while it grows, until standard input closes, which it does when the training has ended."""
    os.nice(10)
    prepare_mlflow()
    with alone(folder):
        delivery, sampler = Delivery(folder), Sampler(folder)
        failures, next_attempt = 0, 0.0
        while not _training_has_ended(POLL):
            sampler.sample()
            if time.monotonic() < next_attempt:
                continue
            try:
                while delivery.step():
                    failures = 0
            except Exception as error:
                log.debug("delivery failed: %s", error)
                next_attempt = time.monotonic() + BACKOFF[min(failures, len(BACKOFF) - 1)]
                if failures == 2:
                    print(f"tracking: {tracking_uri()} does not take metrics; they wait in {folder}", file=sys.stderr)
                failures += 1
        reason = drain(delivery)
        if reason:
            print(
                f"tracking: {delivery.waiting()} records wait in {folder} ({reason}); deliver them later with: "
                "hymunet deliver",
                file=sys.stderr,
            )
        return 0


def _training_has_ended(wait: float) -> bool:
    return bool(select.select([sys.stdin], [], [], wait)[0])


class Sampler:
    """Adds the machine's load to the journal, so that it takes the same road as everything else."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        records = parse(self.path.read_bytes())
        key = "system/cpu_percent"
        self.count = max((record["step"] for record in records if key in record.get("metrics", {})), default=-1) + 1
        self.next = time.monotonic() + SAMPLE

    def sample(self) -> None:
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + SAMPLE
        import psutil

        values = {
            "system/cpu_percent": psutil.cpu_percent(),
            "system/memory_bytes": float(psutil.virtual_memory().used),
            **_gpu_load(),
        }
        line = json.dumps({"time": time.time_ns() // 1_000_000, "step": self.count, "metrics": values}) + "\n"
        with contextlib.suppress(OSError), self.path.open("ab", buffering=0) as file:
            file.write(line.encode())
        self.count += 1


def _gpu_load() -> dict[str, float]:
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle).used
        return {
            "system/gpu_percent": float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            "system/gpu_memory_bytes": float(memory),
        }
    except Exception:  # no such package, no such driver, no such GPU
        return {}


def deliver_all(root: Path) -> int:
    """Delivers every journal under `root`; returns the exit code."""
    prepare_mlflow()
    failed = 0
    for folder in sorted(path.parent for path in root.glob(f"*/{JOURNAL}")):
        with alone(folder):
            delivery = Delivery(folder)
            waiting = delivery.waiting()
            reason = drain(delivery)
            left = delivery.waiting()
        print(f"{folder.name}: {waiting - left} of {waiting} records delivered to {tracking_uri()}")
        if reason:
            print(f"deliver: {folder.name}: {left} records wait ({reason})", file=sys.stderr)
            failed = 1
    return failed


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hymunet.training.deliver", description=__doc__)
    parser.add_argument("--follow", type=Path, metavar="FOLDER", help="one journal, while its training runs")
    parser.add_argument("--journals", type=Path, default=Path("journal"), help="the folder of all journals")
    arguments = parser.parse_args(argv)
    return follow(arguments.follow) if arguments.follow else deliver_all(arguments.journals)


if __name__ == "__main__":
    sys.exit(main())
