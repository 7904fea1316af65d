"""The load benchmark ends with an error where a request was lost, whatever the kind of load."""

import copy

import pytest

from benchmarks.serving import problems

RECORD = {
    "rows": [{"clients": 64, "batch": 4, "statuses": {"200": 90, "429": 3}}],
    "memory": {"statuses": {"200": 5, "422": 1}, "grown_mb": 3.0},
    "overload": {
        "queue 8": {"statuses": {"200": 9, "429": 70}, "refusals_without_a_time": 0},
        "1 s for an answer": {"statuses": {"200": 9, "503": 70}, "refusals_without_a_time": 0},
    },
    "switch": {"statuses": {"200": 50}, "moves": 4, "switches": 4.0, "answers": {"1": 20, "2": 30}},
    "sigterm": {"statuses": {"200": 30}, "code": 0, "answered_after_sigterm": 7},
}


def test_nothing_lost_is_nothing_said():
    assert problems(RECORD) == []


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("rows", 0, "statuses", "503"), 1, "64 clients, batch 4"),
        (("memory", "statuses", "ConnectionError"), 1, "memory"),
        (("memory", "grown_mb"), 90.0, "grew by 90 MB"),
        (("overload", "queue 8", "statuses", "ChunkedEncodingError"), 45, "overload, queue 8"),
        (("overload", "queue 8", "refusals_without_a_time"), 1, "named no time"),
        (("overload", "queue 8", "statuses"), {"200": 9}, "full queue was not refused"),
        (("overload", "1 s for an answer", "statuses"), {"200": 9}, "late answer was not refused"),
        (("switch", "statuses", "500"), 1, "switch"),
        (("switch", "switches"), 1.0, "4 moves, 1 switches"),
        (("switch", "answers"), {"1": 50}, "not both versions"),
        (("sigterm", "statuses", "ConnectionError"), 1, "sigterm"),
        (("sigterm", "code"), -15, "code -15"),
        (("sigterm", "answered_after_sigterm"), 0, "nothing was answered"),
    ],
)
def test_each_loss_is_named(place, value, words):
    record = copy.deepcopy(RECORD)
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (found,) = problems(record)
    assert words in found
