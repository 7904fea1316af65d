"""A `hymunet serve` in a process of its own, and what can be read from it while it runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SIZES = ((600, 450), (1022, 767), (1504, 1129), (256, 256), (3000, 2000))


def photos() -> list[bytes]:
    """JPEGs of SIZES, drawn."""
    import cv2

    from hymunet.data.acquire.synthetic import draw

    drawn = [draw(number, 512, 0)[0][..., ::-1] for number in range(len(SIZES))]
    return [
        cv2.imencode(".jpg", cv2.resize(image, size))[1].tobytes() for image, size in zip(drawn, SIZES, strict=True)
    ]


def random_model(folder: Path, size: int = 256, seed: int = 0) -> Path:
    """A small HyM-UNet of random weights, which costs what a trained one costs."""
    import torch

    from hymunet import models

    section = {"name": "hymunet", "size": "small", "drop_path": 0.0}
    torch.manual_seed(seed)
    info = {"model": section, "image_size": size, "threshold": 0.5}
    models.save(models.build(models.section(section), size), info, folder / "model")
    return folder / "model"


@contextmanager
def served(
    model: Path | str, environment: dict[str, str] | None = None, **options: Any
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Address and process. options: of `hymunet serve`, such as `batch=8`; the queue is 64 and no draining by default.

    It is told to end, and has ended, behind the block.
    """
    given = {"model": model, "port": 0, "queue": 64, "drain_seconds": 0, **options}
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "hymunet.cli", "serve", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.match(r"(http://\S+) is ready", line):
                yield found[1], process
                break
        else:
            raise RuntimeError(f"the server ended with code {process.wait()}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)


def figure(address: str, name: str) -> float:
    """A line of its /metrics, without labels."""
    import requests

    found = re.search(rf"^{name} (\S+)", requests.get(f"{address}/metrics", timeout=60).text, re.M)
    assert found is not None
    return float(found[1])


def resident(process: int) -> float:
    """MB; 0 where there is no /proc."""
    status = Path(f"/proc/{process}/status")
    found = re.search(r"VmRSS:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else 0.0
