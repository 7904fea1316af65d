"""A few kills by default; `make chaos N=200` is the proof."""

import pytest

from tests.support.training_data import drawn, write_inputs


@pytest.mark.timeout(600)
def test_a_killed_training_ends_with_the_same_bytes(tmp_path):
    from tests.chaos.kill_training import chaos

    inputs = write_inputs(tmp_path / "inputs", *drawn(30, 32), validation=6, test=2)
    report = chaos(kills=2, inputs=inputs, folder=tmp_path, seed=2)
    assert report.bad == []
    assert report.faults.total() >= 2
    assert report.completed >= 1
    assert max(report.steps_lost, default=0) <= 1
