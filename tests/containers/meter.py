"""Counts what crosses a network: a proxy before a real HTTP server that notes the bytes of each body."""

import contextlib
import http.client
import http.server
import threading
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

CHUNK = 2**20
OF_ONE_CONNECTION = {"connection", "transfer-encoding", "expect"}


class Meter:
    """`sent` and `received` (as the clients see it): bytes of bodies by (method, path without its query)."""

    def __init__(self, target: str) -> None:
        self.sent: Counter[tuple[str, str]] = Counter()
        self.received: Counter[tuple[str, str]] = Counter()
        self.requests = 0
        self.lock = threading.Lock()
        address, meter = urlsplit(target).netloc, self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                meter.forward(self, address)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def reset(self) -> None:
        with self.lock:
            self.sent.clear()
            self.received.clear()
            self.requests = 0

    def forward(self, request: http.server.BaseHTTPRequestHandler, address: str) -> None:
        """One request and its answer; the Host header stays, since signatures cover it."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection(address, timeout=300)
        connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            if name.lower() not in OF_ONE_CONNECTION:
                connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        request.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in OF_ONE_CONNECTION:
                request.send_header(name, value)
        length = answer.headers.get("Content-Length")
        if length is None:  # its end is the end of the connection
            request.send_header("Connection", "close")
            request.close_connection = True
        request.end_headers()
        received = 0
        with contextlib.suppress(ConnectionError):  # a client may hang up on what it does not want to read
            while chunk := answer.read(CHUNK):
                request.wfile.write(chunk)
                received += len(chunk)
        connection.close()
        key = (request.command, urlsplit(request.path).path)
        with self.lock:
            self.requests += 1
            self.sent[key] += len(body)
            self.received[key] += received
