"""A proxy before a real server that can refuse, hang, answer 500, or swallow the answer to what it has passed on."""

import http.server
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from tests.support.relay import Relay

HEALTHY, REFUSING, HANGING, FAILING, SWALLOWING = "healthy", "refusing", "hanging", "failing", "swallowing"
FAULTS = (REFUSING, HANGING, FAILING, SWALLOWING)


class Proxy(Relay):
    """`mood(n)` says how the n-th request is treated."""

    def __init__(self, target: str, mood: Callable[[int], str] = lambda _: HEALTHY) -> None:
        self.target, self.mood = target, mood
        self.cut = 0  # requests during which the server died
        super().__init__()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        with self.lock:
            mood = self.mood(self.requests)
            self.requests += 1
        if mood == REFUSING:
            request.connection.close()
            return
        if mood == HANGING:
            time.sleep(2)
            request.connection.close()
            return
        if mood == FAILING:
            request.send_error(500)
            return
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        headers = {key: value for key, value in request.headers.items() if key.lower() not in ("host", "connection")}
        forwarded = urllib.request.Request(
            self.target + request.path, body if body else None, headers, method=request.command
        )
        try:
            with urllib.request.urlopen(forwarded, timeout=30) as response:
                status, kind, content = response.status, response.headers.get("Content-Type"), response.read()
        except urllib.error.HTTPError as error:
            status, kind, content = error.code, error.headers.get("Content-Type"), error.read()
        except ConnectionResetError:
            self.cut += 1
            request.connection.close()
            return
        except OSError:
            status, kind, content = 502, "text/plain", b""
        if mood == SWALLOWING:  # the server has done it, nobody hears
            request.connection.close()
            return
        request.send_response(status)
        request.send_header("Content-Type", kind or "application/octet-stream")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)
