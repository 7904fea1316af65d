"""Counts what crosses a network: a proxy before a real HTTP server that notes the bytes of each body."""

import contextlib
import http.client
import http.server
from collections import Counter
from urllib.parse import urlsplit

from tests.support.relay import Relay

CHUNK = 2**20
OF_ONE_CONNECTION = {"connection", "transfer-encoding", "expect"}


class Meter(Relay):
    """`sent` and `received` (as the clients see it): bytes of bodies by (method, path without its query)."""

    protocol_version = "HTTP/1.1"

    def __init__(self, target: str) -> None:
        self.sent: Counter[tuple[str, str]] = Counter()
        self.received: Counter[tuple[str, str]] = Counter()
        self.address = urlsplit(target).netloc
        super().__init__()

    def reset(self) -> None:
        with self.lock:
            self.sent.clear()
            self.received.clear()
            self.requests = 0

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """One request and its answer; the Host header stays, since signatures cover it."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection(self.address, timeout=300)
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
