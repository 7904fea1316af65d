"""Promotion and rollback on a real registry, with versions that hold what is read of them."""

import json
import re

import numpy as np
import pytest

from hymunet.registry.client import CHALLENGER, CHAMPION
from hymunet.registry.decide import WasChampion
from hymunet.registry.ledger import SUFFIX
from hymunet.registry.promote import compare, promote, rollback
from hymunet.registry.step import conclude
from hymunet.registry.verify import verify
from tests.support.scored_versions import POLICY

BASE = np.random.default_rng(0).uniform(0.7, 0.9, 30)
ASKED = "the figure was wanted for a trial"


@pytest.fixture
def three(name, add):
    """Three champions, one after the other."""
    for gain in (0.0, 0.02, 0.04):
        add(BASE + gain)
        assert promote(name, POLICY).promoted


def gate(decision, name):
    return next(found for found in decision.gates if found.name == name)


def test_the_first_challenger_becomes_champion_and_stays(name, add, champion):
    add(BASE)
    assert promote(name, POLICY).kind == "promote"
    assert champion() == "1"
    again = promote(name, POLICY)
    assert (again.kind, champion()) == ("none", "1")


def test_a_better_challenger_wins_with_figures(registry, name, add, champion):
    add(BASE)
    promote(name, POLICY)
    add(BASE + 0.01)
    decision = promote(name, POLICY)
    assert (decision.kind, decision.against, decision.entry, champion()) == ("promote", "1", 2, "2")
    assert gate(decision, "Dice").figure == "+0.0100 (95 % interval +0.0100 to +0.0100)"
    assert registry.get_model_version(name, "2").tags["hymunet.promotion"] == decision.reason


def test_a_worse_challenger_is_refused_and_nothing_moves(name, add, champion):
    add(BASE)
    promote(name, POLICY)
    add(BASE - 0.02)
    decision = promote(name, POLICY)
    assert (decision.promoted, champion()) == (False, "1")
    assert "Dice -0.0200 (95 % interval -0.0200 to -0.0200), lower end at least -0.0100" in decision.reason
    with pytest.raises(ValueError, match="first champion that is left"):
        rollback(name)


def test_refusals_count_as_decisions_of_the_test_set_and_the_same_question_counts_once(name, add):
    add(BASE)
    promote(name, POLICY)
    add(BASE - 0.02)
    assert promote(name, POLICY).decided_before == 0
    assert promote(name, POLICY).decided_before == 0
    add(BASE - 0.03)
    assert compare(name, POLICY).decided_before == 1
    decision = promote(name, POLICY)
    assert decision.decided_before == 1
    assert "lower end at least -0.0033" in decision.reason
    add(BASE, prefix="fresh")
    assert compare(name, POLICY).decided_before == 0


@pytest.mark.parametrize("changed", ["0" * 64, "", None])
def test_a_tag_that_was_changed_by_hand_gives_the_test_images_no_fresh_start(registry, name, add, changed):
    """As it can be on MLflow's pages; the gates read what lies there."""
    add(BASE)
    promote(name, POLICY)
    for loss in (0.02, 0.03):
        add(BASE - loss)
        promote(name, POLICY)
    version = add(BASE - 0.005)
    if changed is None:
        registry.delete_model_version_tag(name, version, "hymunet.test_images_sha256")
    else:
        registry.set_model_version_tag(name, version, "hymunet.test_images_sha256", changed)
    decision = promote(name, POLICY)
    assert (decision.kind, decision.decided_before) == ("refuse", 2)
    assert compare(name, POLICY, "2").decided_before == 2, "the entry is of the images that decided"


def test_other_test_images_are_refused_however_good_the_scores(name, add, champion):
    add(BASE)
    promote(name, POLICY)
    add(BASE + 0.05, prefix="other")
    decision = promote(name, POLICY)
    assert (decision.kind, champion()) == ("refuse", "1")
    assert gate(decision, "same test images").why.startswith("version 2 and version 1 were tested on other images")


def test_rollback_walks_back_through_the_champions(name, three, champion):
    assert rollback(name) == ("3", "2")
    assert rollback(name) == ("2", "1")
    assert champion() == "1"
    with pytest.raises(ValueError, match="version 1 is the first champion that is left"):
        rollback(name)
    with pytest.raises(ValueError, match="version 3 was champion and was taken back for version 2.*--regardless"):
        promote(name, POLICY)
    assert champion() == "1", "what was taken back does not come back by itself"
    assert promote(name, POLICY, regardless=ASKED).kind == "override"
    assert rollback(name) == ("3", "1")


def test_rollback_to_any_earlier_champion_and_to_no_other(name, three, add, champion):
    add(BASE + 0.06)
    with pytest.raises(ValueError, match="version 4 was no champion before; a rollback may go to: 1, 2"):
        rollback(name, to="4")
    assert rollback(name, to="1", reason="a fault in preprocessing", dry_run=True) == ("3", "1")
    assert champion() == "3", "a rehearsal changes nothing"
    assert rollback(name, to="1", reason="a fault in preprocessing") == ("3", "1")
    assert champion() == "1"


WAYS = {  # to which version -> why not, once 3 was taken back for 2; 4 was never promoted
    "2": "version 2 is the champion already; a rollback may go to: 1",
    "3": "version 3 was taken back for version 2; to have it again, promote it: hymunet models promote 3 --regardless",
    "4": "version 4 was no champion before; a rollback may go to: 1",
    "9": "version 9 is not in the registry; a rollback may go to: 1",
}


@pytest.mark.parametrize("to", WAYS)
def test_a_rollback_that_cannot_be_says_why_and_what_can(name, three, add, champion, to):
    add(BASE + 0.06)
    rollback(name)
    with pytest.raises(ValueError, match=re.escape(f"{name} {WAYS[to]}")):
        rollback(name, to=to)
    assert champion() == "2"


def test_a_promotion_that_fails_half_way_leaves_the_old_champion_and_verify_ends_it(
    registry, name, add, champion, monkeypatch
):
    add(BASE)
    promote(name, POLICY)
    add(BASE + 0.01)
    original = type(registry).set_registered_model_alias

    def fail(self, *arguments):
        raise ConnectionError("the network went away")

    monkeypatch.setattr(type(registry), "set_registered_model_alias", fail)
    with pytest.raises(ConnectionError):
        promote(name, POLICY)
    assert champion() == "1"
    monkeypatch.setattr(type(registry), "set_registered_model_alias", original)
    said = verify(name, dry_run=True).findings
    assert "names version 1, the ledger's champion is version 2: left by a promotion" in said[0].text
    assert (said[0].mended, champion()) == (False, "1")
    assert [finding.mended for finding in verify(name).findings] == [True]
    assert champion() == "2"
    assert verify(name).findings == ()
    assert rollback(name) == ("2", "1")


def test_an_alias_that_was_moved_by_hand_is_not_followed(registry, name, three, add, champion):
    add(BASE + 0.06)
    registry.set_registered_model_alias(name, CHAMPION, "4")
    for act in (lambda: promote(name, POLICY), lambda: rollback(name)):
        with pytest.raises(
            ValueError, match="names version 4, which no entry of the ledger made champion; it was moved"
        ):
            act()
    (found,) = verify(name).findings
    assert "moved by hand" in found.text
    assert champion() == "3"


def test_verify_names_the_file_whose_byte_changed(registry, registry_home, name, three):
    run = registry.get_model_version(name, "3").run_id
    (weights,) = registry_home.glob(f"mlruns/*/{run}/artifacts/model/artifacts/model/model.safetensors")
    weights.write_bytes(b"weightS")
    (found,) = verify(name).findings
    assert found.mended is None
    assert "version 3: metrics.json: weights_sha256, model.json: weights_sha256" in found.text


def test_a_registry_without_a_ledger_goes_on_with_its_champions(registry, name, add, champion):
    for gain in (0.0, 0.01, 0.02):
        add(BASE + gain)
    registry.set_registered_model_tag(name, "hymunet.champions", '["1", "2"]')
    registry.set_registered_model_alias(name, CHAMPION, "2")
    assert promote(name, POLICY).against == "2"
    assert champion() == "3"
    assert rollback(name) == ("3", "2")
    assert rollback(name) == ("2", "1")


def test_without_a_model_or_a_challenger_it_says_what_to_do(name):
    with pytest.raises(ValueError, match="no model named nowhere in the registry"):
        promote("nowhere", POLICY)
    with pytest.raises(ValueError, match="has no challenger; register one: dvc repro register"):
        promote(name, POLICY)
    with pytest.raises(ValueError, match="no champion to take back"):
        rollback(name)


def deleted_version(number):
    return lambda registry, name: registry.delete_model_version(name, number)


def deleted_alias(alias):
    return lambda registry, name: registry.delete_registered_model_alias(name, alias)


def both(*acts):
    return lambda registry, name: [act(registry, name) for act in acts]


STATES = {  # three champions, 1 to 3, then this happens; what rollback and promote say or do afterwards
    "nothing": (lambda registry, name: None, ("3", "2"), "taken back for version 2"),
    "the one before was deleted": (deleted_version("2"), ("3", "1"), "taken back for version 1"),
    "the champion was deleted": (deleted_version("3"), ("none", "2"), "has no challenger; register one"),
    "the alias was deleted": (deleted_alias(CHAMPION), ("3", "2"), "taken back for version 2"),
    "all before were deleted": (
        both(deleted_version("1"), deleted_version("2")),
        "version 3 is the first champion that is left",
        "is the champion already",
    ),
    "only version 1 is left": (both(deleted_version("3"), deleted_version("2")), ("none", "1"), "has no challenger"),
    "nothing is left": (
        both(deleted_version("3"), deleted_version("2"), deleted_version("1")),
        "none before it is left; register a model: dvc repro register",
        "has no challenger; register one",
    ),
    "the challenger's alias was deleted": (deleted_alias(CHALLENGER), ("3", "2"), "has no challenger; register one"),
}


@pytest.mark.parametrize("state", STATES)
def test_there_is_a_way_on_from_every_state_of_a_registry(registry, name, three, champion, state):
    act, back, on = STATES[state]
    act(registry, name)
    if isinstance(back, str):
        with pytest.raises(ValueError, match=back):
            rollback(name)
    else:
        assert rollback(name) == back
        assert champion() == back[1]
    if "already" in on:
        assert re.search(on, promote(name, POLICY).reason)
    else:
        with pytest.raises(ValueError, match=on):
            promote(name, POLICY)


def test_after_the_champion_was_deleted_the_last_one_left_is_what_a_challenger_must_match(registry, name, three, add):
    registry.delete_model_version(name, "3")
    (found,) = verify(name).findings
    assert "version 3, the champion, was deleted; hymunet models rollback" in found.text
    add(BASE - 0.05)
    assert (promote(name, POLICY).kind, promote(name, POLICY).against) == ("refuse", "2")
    add(BASE + 0.05)
    assert promote(name, POLICY).promoted


# --- The command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regardless", [None, ASKED])
@pytest.mark.parametrize("rule", ["superiority", "non_inferiority"])
def test_the_last_one_left_is_not_its_own_rival(registry, name, three, champion, rule, regardless):
    """It was refused for being no better than itself, and comparing called it the champion."""
    registry.delete_model_version(name, "3")
    policy = POLICY.model_copy(update={"rule": rule})
    for ask in (lambda: promote(name, policy, "2", regardless), lambda: compare(name, policy, "2")):
        with pytest.raises(WasChampion, match="which was deleted; .* hymunet models rollback --to 2 makes it champion"):
            ask()
    assert rollback(name, "2") == ("none", "2")
    assert (compare(name, policy, "2").kind, champion()) == ("none", "2")


def test_the_pipeline_s_step_goes_on_with_the_last_one_left(registry, name, three, tmp_path):
    registry.delete_model_version(name, "3")
    said = conclude(name, "2", POLICY.model_copy(update={"step": "auto"}), tmp_path)
    assert said.startswith("refuse: ")
    assert "hymunet models rollback --to 2" in said


def test_where_no_champion_is_left_verify_names_no_rollback(registry, name, three, add):
    add(BASE + 0.05)
    for version in "123":
        registry.delete_model_version(name, version)
    (found,) = verify(name).findings
    assert found.text == "version 3, the champion, was deleted; promote another"
    assert promote(name, POLICY).promoted


def test_the_command_promotes_refuses_and_lists(name, add, command, champion):
    add(BASE)
    code, said, _ = command("promote")
    assert code == 0
    assert said.startswith(f"# {name}: version 1 becomes champion")
    add(BASE - 0.02)
    code, said, refusal = command("promote")
    assert code == 1
    assert refusal.startswith("hymunet models: not promoted: version 2 against version 1: Dice -0.0200")
    assert refusal.count("\n") == 1
    assert re.search(r"\| \*\*failed\*\* \| Dice +\| -0\.0200 \(95 % interval", said)
    code, said, _ = command("list")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines()]
    assert [row[0] for row in rows[2:]] == ["2", "1"]
    assert [row[3] for row in rows[2:]] == ["challenger", "champion"]
    assert rows[3][1] == f"{BASE.mean():.4f} (0.1000 to 0.9000)"
    assert command("rollback")[0] == 1


def test_an_override_needs_a_reason_which_stays(name, add, command, champion):
    add(BASE)
    command("promote")
    add(np.full(30, 0.1), prefix="grown")
    assert "version 2 and version 1 were tested on other images" in command("promote")[1]
    assert "--regardless needs --reason WHY" in command("promote", "--regardless")[2]
    assert "--regardless needs --reason WHY" in command("promote", "--regardless", "--reason", " ")[2]
    assert "--reason belongs to --regardless" in command("promote", "--reason", ASKED)[2]
    assert champion() == "1"
    assert command("promote", "--regardless", "--reason", ASKED)[0] == 0
    assert champion() == "2"
    last = json.loads(command("history", "--json")[1])[-1]
    assert (last["kind"], last["version"], last["against"]) == ("override", "2", "1")
    assert ASKED in last["reason"]
    assert "Dice floor 0.1000, at least 0.5" in last["reason"], "what did not pass is kept beside it"
    assert next(found["name"] for found in last["decision"]["gates"] if not found["passed"]) == "Dice floor"


def test_a_rehearsal_says_what_would_be_and_writes_nothing(registry, name, add, command, champion):
    add(BASE)
    code, said, _ = command("promote", "--dry-run", "--json")
    assert (code, json.loads(said)["kind"], champion()) == (0, "promote", "None")
    assert not registry.search_registered_models(f"name = '{name}{SUFFIX}'")
    command("promote")
    add(BASE - 0.02)
    code, said, _ = command("compare", "--json")
    assert (code, json.loads(said)["promoted"]) == (0, False)
    assert command("promote", "--dry-run")[0] == 1
    assert len(json.loads(command("history", "--json")[1])) == 1


def test_one_entry_is_one_entry(name, add, command):
    add(BASE)
    command("promote")
    assert command("verify")[1] == f"{name}: version 1 is champion, 1 entry in the ledger\n"


@pytest.mark.parametrize("wrong", ["nan", "inf", "-inf", "0,9", ""])
def test_a_score_in_a_tag_that_is_no_number_is_none(registry, name, add, command, wrong):
    """JSON has no word for it, and the page's picture no place."""
    registry.set_model_version_tag(name, add(BASE), "test.dice.high", wrong)
    code, out, _ = command("list", "--json")
    assert (code, json.loads(out, parse_constant=pytest.fail)[0]["dice"]) == (0, None)


def test_show_history_and_verify_for_people(name, three, command):
    command("rollback", "--reason", "a fault in preprocessing")
    said = command("show", "2")[1]
    assert said.startswith(f"# {name} version 2 (champion)")
    assert "hymunet.test_images_sha256" in said
    assert "rollback. a fault in preprocessing" in said
    assert "has no version 9" in command("show", "9")[2]
    lines = command("history")[1].splitlines()
    assert [line.split()[4] for line in lines[1::2]] == ["promote", "promote", "promote", "rollback"]
    assert lines[-1] == "4        a fault in preprocessing"
    assert command("verify")[1] == f"{name}: version 2 is champion, 4 entries in the ledger\n"
    assert json.loads(command("verify", "--json")[1])["findings"] == []
