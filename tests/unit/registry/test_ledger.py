"""The ledger: the champion as a function of its entries; appends that lose, repeat or are cut short harm nothing."""

import itertools
import json
import re

import pytest

from hymunet import silence
from hymunet.registry.ledger import PATIENCE, SUFFIX, TAG, Entry, Ledger, Outrun, State, _again, fold

NOTHING = State(0, (), {})
names = (f"ledger-{number}" for number in itertools.count())


def entry(number, version, after, kind="promote", **more):
    return Entry(number, kind, version, after, **more)


ONE, TWO, THREE = entry(1, "1", 0), entry(2, "2", 1), entry(3, "3", 2)
CASES = {  # entries -> head, champions, taken back, void, lost
    "empty": ([], (0, (), {}, (), ())),
    "a chain": ([ONE, TWO, THREE], (3, ("1", "2", "3"), {}, (), ())),
    "two follow one": ([ONE, TWO, entry(3, "3", 1)], (2, ("1", "2"), {}, (3,), ())),
    "the loser tries again": ([ONE, TWO, entry(3, "3", 1), entry(4, "3", 2)], (4, ("1", "2", "3"), {}, (3,), ())),
    "two are first": ([ONE, entry(2, "2", 0)], (1, ("1",), {}, (2,), ())),
    "who follows a void one is void": ([ONE, TWO, entry(3, "3", 1), entry(4, "4", 3)], (2, ("1", "2"), {}, (3, 4), ())),
    "one that names a later one": ([ONE, entry(2, "2", 3)], (1, ("1",), {}, (2,), ())),
    "refusals change nothing": ([ONE, entry(2, "2", 1, "refuse"), entry(3, "3", 1)], (3, ("1", "3"), {}, (), ())),
    "back": ([ONE, TWO, THREE, entry(4, "2", 3, "rollback")], (4, ("1", "2"), {"3": "2"}, (), ())),
    "back by two": ([ONE, TWO, THREE, entry(4, "1", 3, "rollback")], (4, ("1",), {"2": "1", "3": "1"}, (), ())),
    "back and forth": (
        [ONE, TWO, entry(3, "1", 2, "rollback"), entry(4, "2", 3, "override")],
        (4, ("1", "2"), {}, (), ()),
    ),
    "an older ledgerless registry": (
        [entry(1, "9", 0, before=("7", "8"), taken_back={"5": "7"})],
        (1, ("7", "8", "9"), {"5": "7"}, (), ()),
    ),
    "one was deleted": ([ONE, THREE], (3, ("1", "3"), {}, (), (2,))),
    "two were deleted": ([ONE, entry(4, "4", 3)], (4, ("1", "4"), {}, (), (2, 3))),
    "the first was deleted": ([TWO, THREE], (3, ("2", "3"), {}, (), (1,))),
}


@pytest.mark.parametrize("case", CASES)
def test_the_state_is_what_the_entries_make_it(case):
    entries, (head, champions, taken_back, void, lost) = CASES[case]
    assert fold(entries, NOTHING) == State(head, champions, taken_back, void, lost)


def test_whatever_the_order_of_appends_one_entry_follows_each():
    """Eight writers that each read the state some entries ago: the chain of those that count has no fork."""
    for lags in itertools.product(range(3), repeat=6):
        entries = [ONE]
        for number, lag in enumerate(lags, 2):
            seen = fold(entries[: max(1, len(entries) - lag)], NOTHING)
            entries.append(entry(number, str(number), seen.head))
        state = fold(entries, NOTHING)
        standing = [one for one in entries if one.number not in state.void]
        assert [one.after for one in standing] == [0, *(one.number for one in standing[:-1])]
        assert state.champion == standing[-1].version


@pytest.fixture
def ledger(registry):
    model = next(names)
    registry.create_registered_model(model)
    for _ in range(4):
        registry.create_model_version(model, "/nowhere")
    return Ledger(registry, model, lambda: NOTHING)


def alias(ledger):
    return ledger.alias()


def test_an_append_returns_its_number_and_the_alias_follows(ledger):
    first = ledger.append("promote", "1", ledger.state(), reason="the first")
    assert (first.number, first.version, first.after, first.reason) == (1, "1", 0, "the first")
    assert first.by
    assert first.when
    assert alias(ledger) is None, "before the alias is set the old state stands"
    assert ledger.settle(lambda _: True).champion == "1" == alias(ledger)
    second = ledger.append("override", "2", ledger.state())
    assert (second.after, second.against) == (1, "1")
    assert ledger.settle(lambda _: True).champion == "2" == alias(ledger)


def test_who_comes_second_is_told_and_changes_nothing(ledger):
    seen = ledger.state()
    ledger.append("promote", "1", seen)
    with pytest.raises(Outrun, match=r"made version 1 champion of ledger-\d+ meanwhile \(entry 1, promote\)"):
        ledger.append("promote", "2", seen)
    assert ledger.settle(lambda _: True) == State(1, ("1",), {}, (2,), ())
    assert ledger.append("refuse", "2", seen).number == 3, "what changes nothing can come late"
    assert ledger.append("promote", "2", ledger.state()).number == 4


def test_an_append_whose_answer_was_lost_is_written_once_or_counts_once(ledger, monkeypatch):
    from mlflow.exceptions import MlflowException

    original, failures = type(ledger.client).create_model_version, iter(("database is locked", None))

    def lossy(self, *arguments, **more):
        written = original(self, *arguments, **more)
        if reason := next(failures, None):
            raise MlflowException(reason)
        return written

    monkeypatch.setattr(type(ledger.client), "create_model_version", lossy)
    assert ledger.append("promote", "1", ledger.state()).number == 1
    assert len(ledger.entries()) == 1


def test_the_alias_is_set_again_when_another_one_was_faster(ledger, monkeypatch):
    """Between reading the ledger and setting the alias, somebody promotes, sets it and is done."""
    ledger.append("promote", "1", ledger.state())
    client, original, late = ledger.client, type(ledger.client).set_registered_model_alias, iter((True,))

    def outrun(self, name, alias, version):
        if next(late, False):
            ledger.append("promote", "2", ledger.state())
            original(self, name, alias, "2")
        original(self, name, alias, version)

    monkeypatch.setattr(type(client), "set_registered_model_alias", outrun)
    assert ledger.settle(lambda _: True).champion == "2" == alias(ledger)


def test_a_deleted_entry_is_missed_by_its_number_which_is_not_given_again(ledger, registry):
    for version in ("1", "2"):
        ledger.append("promote", version, ledger.state())
    registry.delete_model_version(ledger.name, "2")
    assert ledger.append("promote", "3", State(2, ("1", "2"), {})).number == 3
    assert ledger.state().lost == (2,)


def test_what_is_no_entry_is_named(ledger, registry):
    ledger.append("promote", "1", ledger.state())
    registry.create_model_version(ledger.name, "/elsewhere")
    with pytest.raises(ValueError, match=rf"version 2 of {ledger.model}{SUFFIX} is no entry of a ledger"):
        ledger.entries()


def test_an_entry_is_in_the_database_as_one_record(ledger, registry):
    ledger.append("refuse", "3", ledger.state(), reason="worse", images="abc", decision={"gates": []})
    written = registry.get_model_version(ledger.name, "1")
    content = json.loads(written.tags[TAG])
    assert content["reason"] == "worse"
    assert written.source == f"models:/{ledger.model}/3"


def test_pages_of_the_ledger_are_read_to_the_end(ledger, monkeypatch):
    for _ in range(5):
        ledger.append("refuse", "1", NOTHING)
    original = type(ledger.client).search_model_versions

    def two_at_a_time(self, text, limit=None, **more):
        return original(self, text, 2, **more)

    monkeypatch.setattr(type(ledger.client), "search_model_versions", two_at_a_time)
    assert [one.number for one in ledger.entries()] == [1, 2, 3, 4, 5]


REPEATED = {  # what is raised each time -> seconds after which it is given up
    "(sqlite3.OperationalError) database is locked": PATIENCE,
    "API request failed: too many 500 error responses": silence.READ,
    "API request failed: too many 503 error responses": silence.READ,
    "RESOURCE_DOES_NOT_EXIST": 0,
}


@pytest.mark.parametrize("said", REPEATED)
def test_a_call_that_fails_for_good_is_given_up_after_as_long_as_a_server_s_silence(said, monkeypatch):
    from mlflow.exceptions import MlflowException

    clock = [0.0]
    monkeypatch.setattr("hymunet.registry.ledger.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("hymunet.registry.ledger.time.sleep", lambda wait: clock.__setitem__(0, clock[0] + wait))

    def fails():
        clock[0] += 1
        raise MlflowException(said)

    with pytest.raises(MlflowException, match=re.escape(said)):
        _again(fails)
    assert REPEATED[said] <= clock[0] <= REPEATED[said] + 4
