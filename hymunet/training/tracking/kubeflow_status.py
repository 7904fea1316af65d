"""How far a training is, told to Kubeflow Trainer where it asks: percentage, seconds left, scores.

Trainer (its gate TrainJobStatus) gives a pod an address, a certificate and a token by the variables below; the status
of the TrainJob then shows what was told. A thread posts the newest that is known: a server that is slow, or away,
holds the training up in nothing.
"""

import contextlib
import json
import logging
import math
import os
import ssl
import threading
import time
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hymunet.training.tracking.tracker import Tracker

log = logging.getLogger("hymunet.training")
URL, CERTIFICATE, TOKEN = (f"KUBEFLOW_TRAINER_STATUS_{name}" for name in ("URL", "CA_CERT", "TOKEN"))
TIMEOUT = 5.0
SHOWN = ("validation_dice", "epoch_loss", "learning_rate", "images_per_second")


class KubeflowStatus(Tracker):
    """Passes everything on to `inner`, and each epoch to Kubeflow. epochs: of the whole training."""

    def __init__(self, inner: Tracker, epochs: int, environment: Mapping[str, str] = os.environ) -> None:
        self.inner, self.epochs = inner, epochs
        self.url, self.certificate = environment[URL], environment.get(CERTIFICATE)
        self.token = environment.get(TOKEN)
        self.start: tuple[int, float] | None = None  # epochs done and the time, where this process began
        self.newest: dict[str, Any] | None = None
        self.changed, self.ended = threading.Condition(), False
        self.thread = threading.Thread(target=self._post, name="kubeflow-status", daemon=True)

    def __enter__(self) -> Self:
        self.inner.__enter__()
        self.begin = time.monotonic()
        self.thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify()
        self.thread.join(2 * TIMEOUT)
        self.inner.__exit__(kind, error, trace)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.inner.metrics(step, values)
        if "epoch" in values:
            self._tell(int(values["epoch"]), values)

    def reports(self, folder: Path) -> None:
        self.inner.reports(folder)

    def finish(self, status: str) -> None:
        self.inner.finish(status)

    def sync(self) -> None:
        self.inner.sync()

    def _tell(self, epoch: int, values: dict[str, float]) -> None:
        if self.start is None:
            self.start = (epoch - 1, self.begin)
        done, since = self.start
        a_epoch = (time.monotonic() - since) / max(1, epoch - done)
        shown: dict[str, float] = {"epoch": epoch, "epochs": self.epochs}
        shown |= {name: values[name] for name in SHOWN if name in values and math.isfinite(values[name])}
        status = {
            "progressPercentage": min(100, 100 * epoch // self.epochs),
            "estimatedRemainingSeconds": max(0, round(a_epoch * (self.epochs - epoch))),
            "metrics": [{"name": name, "value": f"{value:.6g}"} for name, value in shown.items()],
            "lastUpdatedTime": datetime.now(UTC).isoformat(),
        }
        with self.changed:
            self.newest = status
            self.changed.notify()

    def _post(self) -> None:
        warned = False
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.newest is not None or self.ended)
                status, self.newest = self.newest, None
            if status is None:
                return
            try:
                self._send(status)
            except (OSError, ValueError, HTTPException) as error:
                if not warned:
                    log.warning("Kubeflow Trainer is not told how far the training is: %s", error)
                warned = True

    def _send(self, status: dict[str, Any]) -> None:
        headers = {"Content-Type": "application/json"}
        if self.token:  # read each time: Kubernetes renews it
            headers["Authorization"] = f"Bearer {Path(self.token).read_text(encoding='utf-8').strip()}"
        body = json.dumps({"trainerStatus": status}).encode()
        request = urllib.request.Request(self.url, body, headers, method="POST")
        trusted = ssl.create_default_context(cafile=self.certificate) if self.url.startswith("https") else None
        with contextlib.closing(urllib.request.urlopen(request, timeout=TIMEOUT, context=trusted)):
            pass
