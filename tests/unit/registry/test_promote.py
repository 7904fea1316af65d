"""Promotion and rollback on a real registry, with versions that hold what they read: tags and per-image scores."""

import itertools
import re

import pytest

from hymunet import cli
from hymunet.registry import promote as module
from hymunet.registry.client import CHALLENGER, CHAMPION
from hymunet.registry.promote import promote, rollback, versions

BASE = [0.50, 0.60, 0.70, 0.80, 0.90, 0.85]
names = (f"candidate-{number}" for number in itertools.count())


@pytest.fixture
def name(registry):
    chosen = next(names)
    registry.create_registered_model(chosen)
    return chosen


@pytest.fixture
def add(registry, name, tmp_path):
    """Registers a version with these Dice scores as the challenger; returns its number."""

    def add(dice, images="the same", ids="abcdef"):
        run = registry.create_run("0").info
        table = tmp_path / "per_image.csv"
        table.write_text("id,dice\n" + "".join(f"{id},{score}\n" for id, score in zip(ids, dice, strict=True)))
        registry.log_artifact(run.run_id, str(table), "model/evaluation")
        tags = {"hymunet.test_images_sha256": images, "test.dice": f"{sum(dice) / len(dice):.6f}"}
        tags |= {"test.dice.low": "0.1", "test.dice.high": "0.9"}
        version = registry.create_model_version(name, f"{run.artifact_uri}/model", run.run_id, tags=tags).version
        registry.set_registered_model_alias(name, CHALLENGER, version)
        return str(version)

    return add


@pytest.fixture
def champion(registry, name):
    return lambda: str(registry.get_registered_model(name).aliases.get(CHAMPION))


def test_the_first_challenger_becomes_champion_and_stays(name, add, champion):
    add(BASE)
    assert promote(name).promoted
    assert champion() == "1"
    again = promote(name)
    assert (again.promoted, champion()) == (True, "1")
    assert "already" in again.reason


def test_a_better_challenger_wins_with_figures(registry, name, add, champion):
    add(BASE)
    promote(name)
    add([score + 0.01 for score in BASE])
    decision = promote(name)
    assert (decision.promoted, champion()) == (True, "2")
    assert "difference +0.0100 (95 % CI +0.0100 to +0.0100) over the same 6 test images" in decision.reason
    assert registry.get_model_version(name, "2").tags["hymunet.promotion"] == decision.reason


def test_an_equal_challenger_wins(name, add, champion):
    add(BASE)
    promote(name)
    add(BASE)
    assert promote(name).promoted
    assert champion() == "2"


def test_a_worse_challenger_is_refused_and_nothing_moves(name, add, champion):
    add(BASE)
    promote(name)
    add([*BASE[:-1], 0.79])
    decision = promote(name)
    assert (decision.promoted, champion()) == (False, "1")
    assert "difference -0.0100" in decision.reason
    assert "not as good" in decision.reason
    with pytest.raises(ValueError, match="first champion that is left"):
        rollback(name)


def test_scores_are_paired_by_image_and_not_by_row(name, add):
    add(BASE)
    promote(name)
    add(BASE[::-1], ids="fedcba")
    assert "(95 % CI +0.0000 to +0.0000)" in promote(name).reason


@pytest.mark.parametrize(
    ("other", "message"),
    [({"images": "others"}, "not tested on the same images"), ({"ids": "abcdeX"}, "lists different images")],
)
def test_other_test_images_are_refused_however_good_the_scores(name, add, champion, other, message):
    add(BASE)
    promote(name)
    add([1.0] * 6, **other)
    with pytest.raises(ValueError, match=message):
        promote(name)
    assert champion() == "1"


def test_rollback_walks_back_through_the_champions(name, add, champion):
    for gain in (0.0, 0.01, 0.02):
        add([score + gain for score in BASE])
        promote(name)
    assert rollback(name) == ("3", "2")
    assert rollback(name) == ("2", "1")
    assert champion() == "1"
    with pytest.raises(ValueError, match="version 1 is the first champion that is left"):
        rollback(name)
    with pytest.raises(ValueError, match="version 3 was champion and was taken back for version 2.*--regardless"):
        promote(name)
    assert champion() == "1", "what was taken back does not come back by itself"
    assert promote(name, regardless=True).promoted
    assert rollback(name) == ("3", "1")


def test_a_promotion_that_fails_half_way_loses_nothing(registry, name, add, champion, monkeypatch):
    add(BASE)
    promote(name)
    add([score + 0.01 for score in BASE])
    promote(name)
    add([score + 0.02 for score in BASE])
    original = type(registry).set_registered_model_alias

    def fail(self, *arguments):
        raise ConnectionError("the network went away")

    monkeypatch.setattr(type(registry), "set_registered_model_alias", fail)
    with pytest.raises(ConnectionError):
        promote(name)
    monkeypatch.setattr(type(registry), "set_registered_model_alias", original)
    assert champion() == "2"
    assert rollback(name) == ("2", "1")


def test_without_a_model_or_a_challenger_it_says_what_to_do(registry, name):
    with pytest.raises(ValueError, match="no model named nowhere in the registry"):
        promote("nowhere")
    with pytest.raises(ValueError, match="has no challenger; register one: dvc repro register"):
        promote(name)
    with pytest.raises(ValueError, match="no champion to take back"):
        rollback(name)


def test_the_list_shows_the_newest_first_with_aliases(name, add):
    add(BASE)
    promote(name)
    add(BASE)
    rows = versions(name)
    assert [(row["version"], row["aliases"]) for row in rows] == [("2", ["challenger"]), ("1", ["champion"])]
    assert float(rows[0]["dice"]) == pytest.approx(0.725)


def test_the_command_promotes_refuses_and_lists(name, add, capsys):
    add(BASE)
    assert cli.main(["models", "promote", "--name", name]) == 0
    add([score - 0.01 for score in BASE])
    assert cli.main(["models", "promote", "--name", name]) == 1
    refusal = capsys.readouterr().err
    assert refusal.startswith("hymunet models: not promoted: version 2 (Dice 0.7150) against version 1 (Dice 0.7250)")
    assert refusal.count("\n") == 1
    assert cli.main(["models", "list", "--name", name]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == ["version", "2", "1"]
    assert listed[2].endswith("champion")
    assert cli.main(["models", "rollback", "--name", name]) == 1


def test_the_history_is_bounded(registry, name, add, monkeypatch):
    monkeypatch.setattr(module, "HISTORY_LENGTH", 2)
    for _ in range(5):
        add(BASE)
        promote(name)
    assert registry.get_registered_model(name).tags["hymunet.champions"] == '["3", "4"]'


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
    "the alias was deleted": (deleted_alias(CHAMPION), ("none", "2"), "version 3 .* against version 2"),
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
def test_there_is_a_way_on_from_every_state_of_a_registry(registry, name, add, champion, state):
    act, back, on = STATES[state]
    for gain in (0.0, 0.01, 0.02):
        add([score + gain for score in BASE])
        promote(name)
    act(registry, name)
    if isinstance(back, str):
        with pytest.raises(ValueError, match=back):
            rollback(name)
    else:
        assert rollback(name) == back
        assert champion() == back[1]
    if "against" in on or "already" in on:
        assert re.search(on, promote(name).reason)
    else:
        with pytest.raises(ValueError, match=on):
            promote(name)


def test_a_change_over_without_a_comparison_is_asked_for_by_name(name, add, champion, registry, capsys):
    add(BASE)
    promote(name)
    add([0.1] * 6, images="others, as the data grew")
    assert cli.main(["models", "promote", "--name", name]) == 1
    assert "to change over without a comparison: hymunet models promote --regardless" in capsys.readouterr().err
    assert cli.main(["models", "promote", "--name", name, "--regardless"]) == 0
    assert champion() == "2"
    assert "without a comparison" in registry.get_model_version(name, "2").tags["hymunet.promotion"]
