"""Latency and memory of two models in one process."""

import time

import numpy as np
import pytest

from hymunet.registry import cost

HELD = 96 * 2**20  # bytes that the larger one takes for a moment


class Model:
    def state_dict(self):
        return {}


class Segmenter:
    """Takes so long and so much memory for an image."""

    model = Model()

    def __init__(self, seconds, held):
        self.seconds, self.held = seconds, held

    def masks(self, images):
        assert images[0].shape == (cost.SIDE, cost.SIDE, 3)
        np.ones(self.held, np.uint8)
        time.sleep(self.seconds)


@pytest.mark.skipif(not cost.CLEAR.exists(), reason="Linux alone tells a process's peak")
def test_what_takes_longer_and_more_memory_is_measured_as_such(monkeypatch):
    monkeypatch.setattr(cost, "ROUNDS", 5)
    lean, heavy = cost.measure([Segmenter(0.002, 1), Segmenter(0.02, HELD)])
    assert lean.p95 >= 0.002
    assert heavy.p95 >= 0.02
    assert heavy.p95 > 2 * lean.p95
    assert heavy.peak == pytest.approx(HELD, rel=0.1)
    assert lean.peak < 0.1 * HELD
    again = cost.measure([Segmenter(0.02, HELD), Segmenter(0.002, 1)])
    assert again[1].peak < 0.1 * HELD, "the order decides nothing"
