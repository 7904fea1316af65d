"""A server in a thread of the test's process, on a real socket."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import uvicorn

from hymunet.serving.app import create_app
from hymunet.serving.limits import Limits
from hymunet.serving.server import Protocol


@dataclass(frozen=True)
class Running:
    """service: what the application shares."""

    address: str
    service: Any

    def post(self, data: Any = None, query: str = "", **options: Any) -> requests.Response:
        return requests.post(f"{self.address}/v1/segment{query}", data=data, timeout=60, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(f"{self.address}{path}", timeout=60, **options)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def running(model: str | Path, follow_seconds: float = 10.0, key: str = "", **limits: Any) -> Iterator[Running]:
    app = create_app(str(model), follow_seconds, Limits(**limits), key)
    config = uvicorn.Config(
        app, port=0, http=Protocol, ws="none", log_level="warning", timeout_graceful_shutdown=5
    )  # no test waits for a client that has gone
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Running(f"http://127.0.0.1:{port}", app.state.service)
    finally:
        server.should_exit = True
        thread.join(60)
