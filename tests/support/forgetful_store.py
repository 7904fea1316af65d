"""A store that says no to some requests, in front of a real one."""

import urllib.error
import urllib.request
from email.message import Message
from http.server import BaseHTTPRequestHandler

from tests.support.relay import Relay


class Forgetful(Relay):
    """Of requests of one method whose path has `lost` in it, it says `status` and `code`, as S3 does; none where `lost`
    is empty. Clients send bodies whole: AWS_REQUEST_CHECKSUM_CALCULATION=when_required."""

    def __init__(self, store: str, method: str, lost: str, status: int, code: str) -> None:
        super().__init__()
        self.store, self.method, self.lost, self.status, self.code = store, method, lost, status, code

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        sent = urllib.request.Request(self.store + request.path, body or None, method=request.command)
        for name, value in request.headers.items():
            if name.lower() not in ("content-length", "connection"):
                sent.add_header(name, value)
        try:
            if self.lost and request.command == self.method and self.lost in request.path.partition("?")[0]:
                raise urllib.error.HTTPError("", self.status, "", Message(), None)
            with urllib.request.urlopen(sent) as got:
                status, headers, content = got.status, got.headers, got.read()
        except urllib.error.HTTPError as error:
            code = self.code if error.code == self.status else "NoSuchKey"
            status, headers, content = error.code, Message(), f"<Error><Code>{code}</Code></Error>".encode()
        request.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                request.send_header(name, value)
        length = headers.get("Content-Length") if request.command == "HEAD" else None
        request.send_header("Content-Length", length or str(len(content)))
        request.end_headers()
        request.wfile.write(b"" if request.command == "HEAD" else content)
