"""Long silent work says that it goes on, and stops saying so when it has ended."""

import re
import time

import pytest

from hymunet.training.progress import told


def test_it_is_said_until_the_work_has_ended():
    lines = []
    with told(lines.append, "compiling the step", every=0.05):
        time.sleep(0.32)
    said = len(lines)
    assert 2 <= said <= 6
    assert all(re.fullmatch(r"compiling the step, 0 s so far", line) for line in lines)
    time.sleep(0.12)
    assert len(lines) == said


def test_what_is_over_at_once_says_nothing():
    lines = []
    with told(lines.append, "compiling the step"):
        pass
    assert not lines


def test_a_failure_ends_it_and_passes():
    lines = []
    with pytest.raises(ValueError, match="no compiler"), told(lines.append, "compiling", every=0.05):
        raise ValueError("no compiler")
    time.sleep(0.12)
    assert not lines
