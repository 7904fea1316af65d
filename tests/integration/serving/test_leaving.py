"""Clients that leave before their answer, or do not take it, hold nothing: no place, no computing, no memory."""

import re
import socket
import threading
import time

import cv2
import numpy as np
import pytest

from hymunet.serving import intake
from hymunet.serving.server import Protocol
from tests.support.serving import running, wait_for

NOISE = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8)  # its answer is 14 MB
CONTENT = cv2.imencode(".jpg", NOISE)[1].tobytes()
PIXELS = np.zeros((8, 8, 3), np.uint8)


def connection(server):
    return socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2])))


def request(query=""):
    return f"POST /v1/segment{query} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode() + CONTENT


class Held:
    """A model that computes until it is let go."""

    def __init__(self):
        self.free = threading.Event()

    def probabilities(self, images):
        self.free.wait(60)
        return np.zeros(images.shape[:3], np.float32)


@pytest.mark.parametrize("stage", ["upload", "decode", "model"])
def test_nothing_is_computed_for_a_client_that_has_left(model, monkeypatch, stage):
    held, decoded, decode = Held(), [], intake.decode
    monkeypatch.setattr(intake, "decode", lambda content, limits: decoded.append(1) or decode(content, limits))
    with running(model) as server:
        service = server.service
        if stage == "decode":
            for _ in range(service.pool._max_workers):
                service.pool.submit(held.free.wait, 60)
            wait_for(lambda: service.pool._work_queue.empty())
        service.batcher.submit(held, PIXELS)
        wait_for(lambda: service.batcher._waiting.empty())
        with connection(server) as leaving:
            leaving.sendall(request()[: -100 if stage == "upload" else None])
            wait_for(lambda: service.admission.count == 1)
            waiting = {"decode": service.pool._work_queue, "model": service.batcher._waiting}.get(stage)
            wait_for(lambda: waiting is None or not waiting.empty())
        wait_for(lambda: service.admission.count == 0)
        held.free.set()
        assert 'hymunet_requests_total{status="499"} 1.0' in server.get("/metrics").text
        assert server.post(CONTENT).status_code == 200
        assert "hymunet_batch_images_sum 2.0" in server.get("/metrics").text, "the held one and the last"
        assert len(decoded) == 1 + (stage == "model")


@pytest.mark.parametrize("taken", ["nothing", "a part", "slowly all of it"])
def test_an_answer_that_is_not_taken_is_let_go(model, monkeypatch, taken):
    lost, ended = [], Protocol.connection_lost
    monkeypatch.setattr(Protocol, "connection_lost", lambda self, error: lost.append(1) or ended(self, error))
    monkeypatch.setattr("hymunet.serving.server.READ_SECONDS", 2)
    with running(model) as server, connection(server) as slow:
        slow.sendall(request("?output=all"))
        answer = slow.makefile("rb")
        read = b"" if taken == "nothing" else answer.read(1000)
        if taken != "slowly all of it":
            wait_for(lambda: lost)
        slow.settimeout(20)
        while (head := read.partition(b"\r\n\r\n"))[2] == b"" or len(head[2]) < length(read):
            if not (part := answer.read1(2**19)):
                break
            read += part
            time.sleep(0.1)
        assert (len(head[2]) == length(read)) == (taken == "slowly all of it")


def length(answer):
    return int(re.search(rb"content-length: (\d+)", answer)[1])
