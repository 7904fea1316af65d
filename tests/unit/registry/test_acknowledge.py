"""Entries of the ledger that were deleted or changed: accepted with a reason by an entry of its own, never hidden."""

import json

import pytest

from hymunet.registry.acknowledge import acknowledge
from hymunet.registry.decide import decided_before
from hymunet.registry.ledger import SUFFIX, TAG, Ledger, State


@pytest.fixture
def ledger(registry, name):
    """Three versions, each made champion by an entry; versions of the ledger by number."""
    made = Ledger(registry, name, lambda: State(0, (), {}))
    for version in "123":
        registry.create_model_version(name, "/nowhere")
        made.append("promote", version, made.state())
    made.settle(lambda _: True)
    return made


def deleted(registry, place, number):
    registry.delete_model_version(place, number)


def changed(registry, place, number):
    registry.set_model_version_tag(place, number, TAG, '{"kind": "promote", "version": "9"}')


def emptied(registry, place, number):
    registry.delete_model_version_tag(place, number, TAG)


FAULTS = {  # what was done to which entries -> how verify tells of the first one
    "one deleted": ({"2": deleted}, "entry 2 of the ledger was deleted"),
    "the first deleted": ({"1": deleted}, "entry 1 of the ledger was deleted"),
    "two deleted": ({"1": deleted, "2": deleted}, "entry 1 of the ledger was deleted"),
    "one changed": ({"2": changed}, 'entry 2 of the ledger was changed and does not count; it says now: {"kind"'),
    "one emptied": ({"2": emptied}, "entry 2 of the ledger was changed and does not count; it says nothing now"),
    "the last one changed": ({"3": changed}, "entry 3 of the ledger was changed and does not count"),
    "one of each": ({"1": deleted, "2": changed}, "entry 1 of the ledger was deleted"),
}


def faults_of(said):
    """What verify says of the ledger, its records left aside: these versions hold no files."""
    return [line for line in said.splitlines() if "of the ledger was" in line]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_accepted_with_a_reason_and_stays_to_be_seen(registry, name, ledger, command, fault):
    done, words = FAULTS[fault]
    for number, do in done.items():
        do(registry, name + SUFFIX, number)
    first = faults_of(command("verify")[1])
    assert len(first) == len(done)
    assert first[0].startswith(f"not in order: {words}")
    assert all(
        f"hymunet models acknowledge {number} --reason WHY" in line for number, line in zip(done, first, strict=True)
    )
    assert command("acknowledge", *done, "--reason", "a trial", "--dry-run")[1].startswith("would be accepted: ")
    assert faults_of(command("verify")[1]) == first, "a rehearsal changes nothing"

    code, said, _ = command("acknowledge", *done, "--reason", "a slip in MLflow's pages; asked the team")
    assert (code, len(faults_of(said))) == (0, len(done))
    after = faults_of(command("verify")[1])
    assert [line.startswith("accepted: entry") for line in after] == [True] * len(done)
    assert " in entry 4, " in after[0]
    assert "a slip in MLflow's pages; asked the team" in after[0]
    assert "a slip in MLflow's pages; asked the team" in command("history")[1]
    assert command("page", "--dry-run")[0] == 0
    assert ledger.append("refuse", "1", ledger.state()).number == 5, "and it goes on"


@pytest.mark.parametrize("fault", FAULTS)
def test_what_was_lost_stays_among_the_decisions_of_the_test_images(registry, name, ledger, command, fault):
    for version in "12":
        ledger.append("refuse", version, ledger.state(), against="3", images="these")
    assert decided_before(ledger.sound(), "these", "9", "3") == 2
    done, _ = FAULTS[fault]
    for number, do in done.items():
        do(registry, name + SUFFIX, number)
    assert command("acknowledge", *done, "--reason", "a slip")[0] == 0
    assert decided_before(ledger.sound(), "these", "9", "3") == 2 + len(done)
    deleted(registry, name + SUFFIX, "5")
    assert decided_before(ledger.sound(), "these", "9", "3") == 2 + len(done), "the decision that it was"


@pytest.mark.parametrize(
    ("numbers", "words"), [("1", "entry 1 .* needs no"), ("9", "those that do: 2"), ("2 3", "entry 3")]
)
def test_only_what_happened_is_accepted(registry, name, ledger, command, numbers, words):
    deleted(registry, name + SUFFIX, "2")
    with pytest.raises(ValueError, match=words):
        acknowledge(name, [int(number) for number in numbers.split()], "why")
    assert len(ledger.entries()) == 2


LATER = [(deleted, changed), (changed, deleted), (emptied, changed)]


@pytest.mark.parametrize(("first", "then"), LATER)
def test_what_happens_to_it_later_is_a_fault_again(registry, name, ledger, command, first, then):
    if first is deleted:
        registry.delete_model_version(name + SUFFIX, "2")
        assert command("acknowledge", "2", "--reason", "known")[0] == 0
        then(registry, name + SUFFIX, "4")  # the acknowledgement itself
        ledger.client.create_model_version(name + SUFFIX, "/nowhere", tags={TAG: json.dumps(REFUSAL)})
    else:
        first(registry, name + SUFFIX, "2")
        assert command("acknowledge", "2", "--reason", "known")[0] == 0
        then(registry, name + SUFFIX, "2")
    assert any(line.startswith("not in order: entry 2 ") for line in faults_of(command("verify")[1]))


REFUSAL = {"kind": "refuse", "version": "1", "after": 3}


@pytest.mark.parametrize("reason", ["", " "])
def test_a_reason_is_asked_for(ledger, command, reason):
    assert "--reason is empty" in command("acknowledge", "2", "--reason", reason)[2]
