"""A web server that misbehaves as told: one file, and a script of faults that requests meet one after another."""

import hashlib
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HostileServer:
    """Serves `content` as `name`. `faults`: (request number, start, stop) -> the fault to commit, or None.

    Faults: 500, ("cut", n) n bytes then hang up, ("stall", seconds), "ignore range", "lie range", "wrong length",
    "wrong bytes", ("change", content) another file from here on.
    """

    def __init__(self, content: bytes, name: str = "archive.zip") -> None:
        self.content, self.name = content, name
        self.faults: Callable[[int, int, int], object] = lambda number, start, stop: None
        self.tag = True
        self.sent = 0
        self.requests = 0
        self.missing: set[str] = set()
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.path != f"/{self.name}":
            request.send_error(404)
            return
        asked = request.headers.get("Range")
        start, stop = 0, len(self.content)
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1, stop)
        with self._lock:
            self.requests += 1
            fault = self.faults(self.requests, start, stop)
        if isinstance(fault, tuple) and fault[0] == "change":
            self.content, fault = fault[1], None
            stop = min(stop, len(self.content))
        if fault == 500:
            request.send_error(500)
            return
        etag = f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'
        changed = self.tag and request.headers.get("If-Range") not in (None, etag)
        if asked and (changed or fault == "ignore range"):
            asked, start, stop = None, 0, len(self.content)
        body = self.content[start:stop]
        request.send_response(206 if asked else 200)
        if asked:
            shown = start + 1 if fault == "lie range" else start
            request.send_header("Content-Range", f"bytes {shown}-{stop - 1}/{len(self.content)}")
        if self.tag:
            request.send_header("ETag", etag)
        request.send_header("Content-Length", str(len(body) + (7 if fault == "wrong length" else 0)))
        request.end_headers()
        if fault == "wrong bytes":
            body = bytes(byte ^ 0xFF for byte in body[:64]) + body[64:]
        if isinstance(fault, tuple) and fault[0] == "cut":
            body = body[: fault[1]]
        if isinstance(fault, tuple) and fault[0] == "stall":
            self._send(request, body[: len(body) // 2])
            time.sleep(fault[1])
            body = body[len(body) // 2 :]
        self._send(request, body)
        if len(body) != stop - start or fault == "wrong length":
            request.close_connection = True

    def _send(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        try:
            request.wfile.write(body)
        except OSError:
            return
        with self._lock:
            self.sent += len(body)
