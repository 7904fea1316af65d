"""What a server must hold out under load: many requests, more than it can take, another version, and its own end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from benchmarks.serving_clients import Clients
from benchmarks.serving_server import figure, random_model, resident, served

NAME = "benchmark"
WARM = 300  # requests, until every thread's allocator holds what it will hold


def memory(model: Path, bodies: list[bytes], requests: int) -> dict[str, Any]:
    """By 16 clients, one image in six cut off; before: once a tenth of the requests, or WARM, has been answered."""
    given = [*bodies, bodies[0][:-500]]
    with served(model) as (address, process):
        with Clients(address, given, 16, most=max(WARM, requests // 10)):
            pass
        before = resident(process.pid)
        with Clients(address, given, 16, most=requests) as clients:
            pass
        after = resident(process.pid)
    return {"requests": requests, "before_mb": before, "grown_mb": after - before, **clients.record()}


def overload(model: Path, bodies: list[bytes], seconds: float) -> dict[str, Any]:
    """64 clients at a queue of 8, and 64 at a server that gives up on an answer after a second."""
    found = {}
    trials: dict[str, dict[str, Any]] = {"queue 8": {"queue": 8}, "1 s for an answer": {"seconds": 1}}
    for name, limits in trials.items():
        with served(model, **limits) as (address, _), Clients(address, bodies, 64) as clients:
            time.sleep(seconds)
        found[name] = {**clients.record(), "refusals_without_a_time": clients.unnamed}
    return found


def switch(folder: Path, bodies: list[bytes], seconds: float) -> dict[str, Any]:
    """An alias moves to and fro between two versions while 8 clients ask."""
    from hymunet.registry.client import registry
    from tests.support.versions import add

    address = f"sqlite:///{folder}/mlflow.db"
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = address
    try:
        with registry() as client:
            client.create_registered_model(NAME)
            for number, size in enumerate((256, 192)):
                model = random_model(folder / f"version{number}", size, number)
                add(client, NAME, model, 0.5, folder / f"evaluation{number}")
            client.set_registered_model_alias(NAME, "champion", "1")
            place = f"models:/{NAME}@champion"
            moves = 0
            with served(place, {"MLFLOW_TRACKING_URI": address}, follow_seconds=0.5) as (url, _):
                with Clients(url, bodies, 8, of_versions=True) as clients:
                    ends = time.monotonic() + seconds
                    while time.monotonic() < ends:
                        time.sleep(min(4.0, seconds / 4))
                        moves += 1
                        client.set_registered_model_alias(NAME, "champion", "21"[moves % 2 - 1])
                switches = figure(url, "hymunet_model_switches_total")
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before
    return {"moves": moves, "switches": switches, "answers": dict(sorted(clients.versions.items())), **clients.record()}


def end(model: Path, bodies: list[bytes], seconds: float) -> dict[str, Any]:
    """SIGTERM while 8 clients ask; they go on until the server is not ready, as behind a load balancer."""
    import requests

    with served(model, drain_seconds=3) as (address, process):
        with Clients(address, bodies, 8) as clients:
            time.sleep(seconds)
            before, told = clients.answered, time.perf_counter()
            process.send_signal(signal.SIGTERM)
            while requests.get(f"{address}/ready", timeout=30).status_code == 200:
                time.sleep(0.02)
            while clients.answered == before:
                time.sleep(0.02)
        code = process.wait(90)
        ended = time.perf_counter() - told
    return {
        "answered_after_sigterm": clients.answered - before,
        "code": code,
        "seconds_to_the_end": ended,
        **clients.record(),
    }
