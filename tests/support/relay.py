"""A server on this machine between a client and a real one; what it does with a request is its subclass's."""

import http.server
import threading
from typing import Any, Self


class Relay:
    """`uri` is where clients go; each request, of any method, ends in `answer`."""

    protocol_version = "HTTP/1.0"

    def __init__(self) -> None:
        self.requests = 0
        self.lock = threading.Lock()
        relay = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = relay.protocol_version

            def handle_request(self) -> None:
                relay.answer(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
