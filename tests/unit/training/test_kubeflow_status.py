"""Kubeflow Trainer is told how far a training is, whatever it answered before."""

import socket
import threading
import time

import pytest

from hymunet.training.tracking.kubeflow_status import URL, KubeflowStatus
from hymunet.training.tracking.tracker import Tracker

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ANSWERS = {
    "nothing": b"",
    "no HTTP": b"\x15\x03\x03\x00\x02\x02\x16\r\n\r\n",  # an alert: the port speaks TLS
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    "a line too long": b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n",
    "a failure": b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n",
}


class Server:
    """Answers the first request with `first`, the others well."""

    def __init__(self, first: bytes) -> None:
        self.answers, self.told = [first], 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/status"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                request = b""
                while b"lastUpdatedTime" not in request:
                    request += connection.recv(65536)
                connection.sendall(self.answers.pop() if self.answers else GOOD)
                self.told += 1

    def await_told(self, count: int) -> None:
        deadline = time.monotonic() + 10
        while self.told < count and time.monotonic() < deadline:
            time.sleep(0.01)


@pytest.mark.parametrize("answer", ANSWERS)
def test_one_bad_answer_is_a_warning_and_the_next_epoch_is_told(
    answer: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server(ANSWERS[answer])
    try:
        with KubeflowStatus(Tracker(), 2, {URL: server.url}) as status:
            for epoch in (1, 2):
                status.metrics(epoch, {"epoch": epoch, "epoch_loss": 0.5})
                server.await_told(epoch)
    finally:
        server.socket.close()
    assert server.told == 2
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "Kubeflow Trainer is not told how far the training is"
    ]
