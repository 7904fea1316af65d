"""A registered model that was deleted and made anew beside its ledger: its versions have the old ones' numbers."""

import json

import numpy as np
import pytest

from hymunet.registry.ledger import CONTENT, SUFFIX
from hymunet.registry.promote import approve, compare, promote, rollback
from hymunet.registry.step import conclude
from hymunet.registry.verify import verify
from tests.support.scored_versions import POLICY

BASE = np.random.default_rng(0).uniform(0.7, 0.9, 30)
ANOTHER = r"version 1 is not the one that entry 1 of .*\.ledger is of .* delete .*\.ledger, too, or take another name"


@pytest.fixture
def register(registry, name, add):
    """As registering does, which says what a version is."""

    def register(dice, content):
        version = add(dice)
        registry.set_model_version_tag(name, version, CONTENT, content)
        return version

    return register


@pytest.fixture
def anew(registry, name, register):
    """A champion, and a refusal; then the model alone goes, and a worse one takes number 1."""
    register(BASE, "a")
    assert promote(name, POLICY).promoted
    register(BASE - 0.05, "b")
    assert not promote(name, POLICY).promoted
    registry.delete_registered_model(name)
    registry.create_registered_model(name)
    return register(BASE - 0.3, "c")


ASKED = {
    "promote": lambda name, place: promote(name, POLICY),
    "a rehearsal": lambda name, place: promote(name, POLICY, dry_run=True),
    "compare": lambda name, place: compare(name, POLICY),
    "approve": lambda name, place: approve(name, POLICY, "why"),
    "rollback": lambda name, place: rollback(name),
    "the step, which promotes": lambda name, place: conclude(
        name, "1", POLICY.model_copy(update={"step": "auto"}), place
    ),
    "the step, which reports": lambda name, place: conclude(
        name, "1", POLICY.model_copy(update={"step": "manual"}), place
    ),
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_no_version_inherits_what_was_decided_about_another_of_its_number(name, anew, champion, tmp_path, asked):
    """The new version 1 was champion already, without a gate."""
    with pytest.raises(ValueError, match=ANOTHER):
        asked(name, tmp_path)
    assert champion() == "None"


def test_verify_says_it_and_sets_no_alias_and_history_stays_to_be_read(name, anew, champion, command):
    assert any("is not the one that entry 1" in finding.text for finding in verify(name).findings)
    assert champion() == "None"
    code, said, _ = command("history", "--json")
    assert (code, [entry["content"] for entry in json.loads(said)]) == (0, ["a", "b"])


def test_with_the_ledger_deleted_too_the_gates_decide(registry, name, anew, champion):
    registry.delete_registered_model(name + SUFFIX)
    assert promote(name, POLICY).kind == "promote"
    assert champion() == "1"


def test_the_same_content_again_is_the_same_version(registry, name, register, champion):
    """As of a registry that was copied version by version, which gives new times and runs."""
    register(BASE, "a")
    promote(name, POLICY)
    registry.delete_registered_model(name)
    registry.create_registered_model(name)
    register(BASE, "a")
    assert (promote(name, POLICY).kind, champion()) == ("none", "1")


def test_a_request_of_a_version_that_was_deleted_hides_none_before_it(registry, name, register, champion, monkeypatch):
    asking = POLICY.model_copy(update={"approval": True})
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    for content in "ab":
        register(BASE, content)
        assert promote(name, asking).kind == "request"
    registry.delete_model_version(name, "2")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ben")
    assert approve(name, asking, "looked at it").promoted
    assert champion() == "1"
