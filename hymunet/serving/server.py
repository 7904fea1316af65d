"""The process: listens, and on SIGTERM first says that it is not ready, goes on answering, then ends what is begun."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from hymunet.serving.app import create_app
from hymunet.serving.contract import HEADERS, SEGMENT
from hymunet.serving.limits import Limits

HEAD_SECONDS = 10.0  # within which a connection must send a request's head
READ_SECONDS = 60.0  # within which a client must take a part of its answer
AGAIN = 5  # seconds, when there are too many connections
CONNECTIONS = 900  # open at once, below the 1,024 files that a process may commonly have open


class Protocol(H11Protocol):
    """Closes connections on which no request begins, at first or after an answer, and those that still send what was
    answered already: uvicorn waits for ever where a byte comes now and then. So it does for a client that does not take
    its answer, which is in memory so long. Refuses masks, in the words of all refusals, on those beyond CONNECTIONS.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self.app = crowded(self.app)
        self.silent = self.loop.call_later(HEAD_SECONDS, self._close_if_silent, None)
        self.stuck: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.silent.cancel()
        self._read_on()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        answered = self.cycle
        super().on_response_complete()  # may begin a request that has come already
        self.silent.cancel()
        self.silent = self.loop.call_later(HEAD_SECONDS, self._close_if_silent, answered)

    def send_400_response(self, msg: str) -> None:
        """To what is no HTTP, the form of all refusals; nothing where an answer is begun or made already."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            refusal = JSONResponse(
                {"error": f"{msg} http:// alone is spoken here"}, 400, {**HEADERS, "Connection": "close"}
            )
            head = h11.Response(status_code=400, headers=refusal.raw_headers, reason=STATUS_PHRASES[400])
            for event in (head, h11.Data(data=bytes(refusal.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_on()

    def _close_if_silent(self, answered: Any) -> None:
        if self.cycle is answered:
            self.transport.close()
            self._watch()  # a little may be left, of which nothing is told

    def _watch(self) -> None:
        """From now on nothing is added to what is unsent."""
        self._read_on()
        self.stuck = self.loop.call_later(READ_SECONDS, self._abort_if_stuck, self.transport.get_write_buffer_size())

    def _read_on(self) -> None:
        if self.stuck:
            self.stuck.cancel()

    def _abort_if_stuck(self, before: int) -> None:
        if 0 < before <= self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self._watch()


def crowded(app: Any) -> Any:
    """The application for a connection too many: probes are answered, requests for masks are not."""
    refusal = JSONResponse(
        {"error": f"{CONNECTIONS} connections are open; come again"}, 503, {**HEADERS, "Retry-After": str(AGAIN)}
    )

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await (refusal if scope.get("path") == SEGMENT else app)(scope, receive, send)

    return answer


class Server(uvicorn.Server):
    """Ends with code 0 on SIGTERM: `drain_seconds` long it answers what still comes, as a load balancer needs them."""

    def __init__(self, config: uvicorn.Config, service: Any, drain_seconds: float) -> None:
        super().__init__(config)
        self.service, self.drain_seconds = service, drain_seconds

    async def serve(self, sockets: Any = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and not self.service.draining:
            self.service.draining = True
            self.loop.call_soon_threadsafe(self.loop.call_later, self.drain_seconds, self._exit)
        else:
            self._exit()

    def _exit(self) -> None:
        self.should_exit = True


def serve(
    model: str,
    host: str,
    port: int,
    follow_seconds: float,
    drain_seconds: float,
    limits: Limits,
    key: str = "",
    weights_sha256: str | None = None,
) -> None:
    """Until a signal. key: asked of every client where it is not empty. Raises ValueError when the model cannot be
    loaded or is not of the weights that are asked for, OSError when the port cannot be had.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    app = create_app(model, follow_seconds, limits, key)
    service = app.state.service
    weights = service.follower.loaded.weights
    if weights_sha256 not in (None, weights):
        service.close()
        raise ValueError(f"{model}: its weights are {weights}, not {weights_sha256} as asked for; nothing is served")
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=int(limits.upload_seconds + limits.seconds) + 1,
    )
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        number = error.errno or 0  # below 0 where a host's name is not known: strerror has words for system calls alone
        reason = os.strerror(number) if number > 0 else str(error.strerror or error).partition(" (while")[0]
        other = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise OSError(f"cannot listen on {host}, port {port}: {reason}; choose another {other}") from None
    print(f"{service.follower.loaded.source} ({service.follower.loaded.decides})", flush=True)
    place = f"[{host}]" if ":" in host else host
    print(f"http://{place}:{listening.getsockname()[1]} is ready; research use only, not a medical device", flush=True)
    Server(config, service, drain_seconds).run(sockets=[listening])
