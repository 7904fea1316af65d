"""Thousands of requests of mixed sizes by many clients at once: every one answered, and memory stays where it was."""

import threading
from collections import Counter

import cv2
import pytest
import requests

from benchmarks.serving_server import resident, served
from hymunet.data.acquire.synthetic import draw

SIZES = ((64, 48), (300, 225), (600, 450), (31, 200), (1022, 767))
CLIENTS = 16
GROWTH = 40  # MB, of what allocators keep
pytestmark = pytest.mark.integration


def ask(address, bodies, count):
    """`count` requests by CLIENTS clients -> answers by status."""
    statuses, numbers, lock = Counter(), iter(range(count)), threading.Lock()

    def client():
        with requests.Session() as session:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                output = ("mask", "json", "all", "probability")[number % 4]
                body = bodies[number % len(bodies)]
                answer = session.post(f"{address}/v1/segment?output={output}", data=body, timeout=120)
                with lock:
                    statuses[answer.status_code] += 1

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return dict(statuses)


@pytest.mark.parametrize(
    ("warm", "count"),
    [(200, 400), pytest.param(2000, 20_000, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])],
)
def test_memory_does_not_grow(model, count, warm):
    """Of good images and of one in six that is cut off."""
    drawn = [cv2.resize(draw(number, 256, 0)[0], size) for number, size in enumerate(SIZES)]
    bodies = [cv2.imencode(".jpg", image)[1].tobytes() for image in drawn]
    bodies.append(bodies[2][:-500])
    with served(model, batch=8) as (address, process):
        ask(address, bodies, warm)
        before = resident(process.pid)
        assert before > 0
        statuses = ask(address, bodies, count)
        grown = resident(process.pid) - before
    broken = len(range(5, count, 6))
    assert statuses == {200: count - broken, 422: broken}
    print(f"{before:.0f} MB after {warm} requests, {grown:+.0f} MB after {count} more")
    assert grown < GROWTH
    assert process.returncode == 0
