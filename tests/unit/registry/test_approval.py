"""Promotion that a second person approves, never who asked for it; and what the end of the register step does."""

import json

import numpy as np
import pytest

from hymunet.registry.promote import approve, promote, rollback
from hymunet.registry.step import REPORTS, conclude
from tests.support.scored_versions import POLICY

BASE = np.random.default_rng(0).uniform(0.7, 0.9, 30)
ASKING = POLICY.model_copy(update={"approval": True})
AUTO, MANUAL = (POLICY.model_copy(update={"step": step}) for step in ("auto", "manual"))
STRICT = POLICY.model_copy(update={"step": "auto", "min_dice": 0.99})
ASKED = POLICY.model_copy(update={"step": "auto", "approval": True})


@pytest.fixture
def acting(monkeypatch):
    """Who acts from now on, as a server with accounts knows them."""
    return lambda person: monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", person)


def history(command):
    return json.loads(command("history", "--json")[1])


def test_a_request_waits_until_a_second_person_approves_it(name, add, champion, command, acting):
    acting("ada")
    add(BASE)
    with pytest.raises(ValueError, match="has no open request"):
        approve(name, ASKING, "looked at it")
    asked = promote(name, ASKING)
    assert (asked.kind, asked.promoted, champion()) == ("request", False, "None")
    with pytest.raises(ValueError, match=r"ada requested the promotion of version 1 \(entry 1\); a second person"):
        approve(name, ASKING, "I like it")
    acting("ben")
    code, said, _ = command("approve", "--reason", "the report holds", "--dry-run")
    assert (code, champion()) == (0, "None")
    assert "would become champion" in said
    assert "--reason is empty" in command("approve", "--reason", " ")[2]
    assert command("approve", "--reason", "the report holds")[0] == 0
    assert champion() == "1"
    request, promotion = history(command)
    assert (request["kind"], request["by"], promotion["kind"], promotion["by"]) == ("request", "ada", "promote", "ben")
    assert promotion["decision"]["approval"] == {
        "by": "ben",
        "reason": "the report holds",
        "request": 1,
        "requested_by": "ada",
    }
    assert "requested by ada (entry 1), approved: the report holds" in promotion["reason"]
    with pytest.raises(ValueError, match="has no open request"):
        approve(name, ASKING, "once more")


def test_an_approval_asks_the_gates_again_and_an_override_needs_approval_too(name, add, champion, command, acting):
    acting("ada")
    add(BASE)
    promote(name, POLICY)
    add(BASE - 0.02)
    assert promote(name, ASKING).kind == "refuse"
    strict = ASKING.model_copy(update={"min_dice": 0.95})
    add(BASE + 0.02)
    promote(name, ASKING)
    acting("ben")
    assert approve(name, strict, "seems fine").kind == "refuse", "the bound was raised meanwhile"
    assert champion() == "1"
    with pytest.raises(ValueError, match="has no open request"):
        approve(name, ASKING, "seems fine")
    acting("ada")
    assert promote(name, ASKING, "2", regardless="wanted for a trial").kind == "request"
    assert champion() == "1"
    acting("ben")
    assert approve(name, ASKING, "for a day", "2").kind == "override"
    assert champion() == "2"
    assert "wanted for a trial" in history(command)[-1]["reason"]
    assert "approved: for a day" in history(command)[-1]["reason"]


def test_the_register_step_reports_and_promotes_what_passes(name, add, champion, tmp_path):
    reports = tmp_path / "reports"
    reports.mkdir()
    assert conclude(name, add(BASE), POLICY, reports) == ""
    assert list(reports.iterdir()) == []
    assert "version 1 passes every gate; nothing is promoted (promote.step: manual)" in conclude(
        name, "1", MANUAL, reports
    )
    assert champion() == "None"
    assert conclude(name, "1", AUTO, reports).startswith("promote: version 1 against no champion: passed all")
    assert champion() == "1"
    assert conclude(name, "1", AUTO, reports) == "none: version 1 is the champion already"
    add(BASE - 0.02)
    for _ in range(2):
        assert conclude(name, "2", AUTO, reports).startswith("refuse: version 2 against version 1: Dice -0.0200")
    report = json.loads((reports / REPORTS[0]).read_text())
    assert (report["kind"], report["promoted"], report["version"]) == ("refuse", False, "2")
    assert "**failed** | Dice " in (reports / REPORTS[1]).read_text()
    add(BASE + 0.02)
    conclude(name, "3", AUTO, reports)
    assert rollback(name) == ("3", "1")
    assert "was champion and was taken back for version 1" in conclude(name, "3", AUTO, reports)
    assert champion() == "1"
    assert conclude(name, "3", POLICY, reports) == ""
    assert list(reports.iterdir()) == [], "no report of another day stays"


def test_the_same_step_again_writes_no_second_entry(name, add, command, tmp_path):
    for gain in (0.0, -0.02):
        version = add(BASE + gain)
        for _ in range(3):
            conclude(name, version, AUTO, tmp_path)
    assert [entry["kind"] for entry in history(command)] == ["promote", "refuse"]


@pytest.mark.parametrize(
    ("first", "then", "words"),
    [
        (STRICT, AUTO, "by a rehearsal version 2 would become champion (version 2 against version 1: passed all"),
        (STRICT, ASKED, "by a rehearsal version 2 would wait for approval by a second person ("),
        (ASKED, AUTO, "by a rehearsal version 2 would become champion ("),
    ],
    ids=["refused, then good", "refused, then asked for", "asked for, then without approval"],
)
def test_a_rehearsal_of_the_step_does_not_read_like_an_act(name, add, champion, command, tmp_path, first, then, words):
    conclude(name, add(BASE), AUTO, tmp_path)
    add(BASE + 0.02)
    conclude(name, "2", first, tmp_path)
    said = conclude(name, "2", then, tmp_path)
    assert said.startswith(f"it was decided before, and nothing was changed now; {words}")
    assert said.endswith(f"hymunet models promote 2 --name {name}")
    assert "would" in (tmp_path / REPORTS[1]).read_text().splitlines()[0]
    assert (champion(), len(history(command))) == ("1", 2)
