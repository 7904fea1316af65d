"""What was decided, as `hymunet models history` shows it: within the terminal's width, nothing lost."""

import json

import numpy as np
import pytest

from hymunet.registry.ledger import Ledger, State

BASE = np.random.default_rng(0).uniform(0.7, 0.9, 30)


@pytest.mark.parametrize("why", ["one\ntwo", "one\r\n\ttwo", "one\n\n two "])
def test_a_reason_of_several_lines_is_one_line(name, add, command, why):
    add(BASE)
    assert command("promote", "--regardless", "--reason", why)[0] == 0
    lines = command("history")[1].splitlines()
    assert len(lines) == 3, lines
    assert "one two" in lines[-1]


LONG = {
    "many gates": "; ".join(f"slice {index} -0.3747 over 68 images, at least -0.0300" for index in range(30)),
    "a path": f"see {'/'.join(['a_folder_of_ours'] * 20)}",
    "words with hyphens": "non-inferior by-hand " * 20,
    "short": "too slow",
    "none": "",
}


@pytest.mark.parametrize("reason", LONG)
@pytest.mark.parametrize(("columns", "most"), [(None, 100), ("160", 160), ("80", 80), ("10", 60)])
def test_history_fits_the_terminal_and_each_line_names_its_entry(
    registry, name, add, command, monkeypatch, reason, columns, most
):
    """Of more than nine entries, so that numbers differ in length."""
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    else:
        monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada.of.the.release.managers@example.org")
    add(BASE)
    ledger = Ledger(registry, name, lambda: State(0, (), {}))
    for _ in range(10):
        ledger.append("refuse", "1", ledger.state(), reason=LONG[reason])
    lines = command("history")[1].splitlines()
    assert max(map(len, lines)) <= most
    numbers = [int(line.split()[0]) for line in lines if not line.startswith("entry  ")]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, 11))
    assert sum(" refuse" in line for line in lines) == 10
    text = " ".join(line[5:].strip() for line in lines if line.startswith("10 "))
    assert (LONG[reason] or "no reason given").replace(" ", "") in text.replace(" ", "")
    whole = json.loads(command("history", "--json")[1])
    assert [entry["reason"] for entry in whole] == [LONG[reason]] * 10


def test_a_question_asked_again_by_hand_is_a_decision_of_its_own_that_costs_nothing(name, add, command, monkeypatch):
    """Bounds, machine and who asks may be others; what was asked of the test images is counted by pairs of versions."""
    add(BASE)
    command("promote")
    add(BASE - 0.02)
    decisions = []
    for person in ("ada", "ben"):
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", person)
        decisions.append(json.loads(command("promote", "--json")[1]))
    assert [entry["by"] for entry in json.loads(command("history", "--json")[1])[1:]] == ["ada", "ben"]
    assert [one["kind"] for one in decisions] == ["refuse", "refuse"]
    assert decisions[0]["decided_before"] == decisions[1]["decided_before"]
    assert decisions[0]["gates"] == decisions[1]["gates"]
