"""What a release manager meets by accident: empty options, names, rehearsals, files and entries changed by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from hymunet.registry import seal
from hymunet.registry.ledger import SUFFIX, TAG

BASE = np.linspace(0.7, 0.95, 30)


@pytest.fixture
def two(add, command):
    """Version 1 is champion, version 2 the challenger, a little better."""
    add(BASE)
    assert command("promote")[0] == 0
    add(BASE + 0.01)


# --- Options ---------------------------------------------------------------------------------------------------------

EMPTY = (  # as of a shell's variable that is not set
    ("promote", ""),
    ("promote", " "),
    ("promote", "--name", ""),
    ("rollback", "--to", ""),
    ("compare", "--against", ""),
    ("copy", "--to", ""),
    ("verify", "--name", ""),
    ("promote", "--notify", ""),
)


@pytest.mark.parametrize("arguments", EMPTY, ids=" ".join)
def test_an_empty_value_is_not_taken_for_the_default(two, champion, capsys, command, arguments):
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    assert ended.value.code == 2
    assert "is empty; leave it out for the default, or give a value" in " ".join(capsys.readouterr().err.split())
    assert champion() == "1"


NAMES = {
    "o'brien": "is no model's name; expected letters",
    'a"b': "is no model's name; expected letters",
    "a/b": "is no model's name; expected letters",
    "a\nb": "is no model's name; expected letters",
    "hymunet\n": "is no model's name; expected letters",
    "x" * 129: "is no model's name; expected letters",
    "hymunet.ledger": "is a ledger; name its model, hymunet, and read it with: hymunet models history",
}


@pytest.mark.parametrize("wrong", NAMES, ids=repr)
@pytest.mark.parametrize("option", [("list", "--name"), ("copy", "--to")], ids=" ".join)
def test_a_name_that_no_model_can_have_is_refused_before_mlflow_is_asked(name, command, capsys, option, wrong):
    with pytest.raises(SystemExit) as ended:
        command(*option, wrong)
    assert ended.value.code == 2
    assert NAMES[wrong] in " ".join(capsys.readouterr().err.split())


def test_a_model_that_is_not_there_is_told_with_the_registry_that_was_asked(registry_home, command):
    said = command("list", "--name", "other")[2]
    assert f"no model named other in the registry at sqlite:///{registry_home}/mlflow.db" in said
    assert "MLFLOW_TRACKING_URI" in said


# --- What is said of a rehearsal -------------------------------------------------------------------------------------

REHEARSALS = {
    ("compare",): "version 2 would become champion",
    ("promote", "--dry-run"): "version 2 would become champion",
    ("promote", "--dry-run", "--set", "promote.min_dice=1"): "version 2 would not be promoted",
    ("promote", "--dry-run", "--set", "promote.approval=true"): "version 2 would wait for approval by a second person",
    ("promote", "--dry-run", "--regardless", "--reason", "a trial"): "version 2 would become champion without regard",
    ("compare", "1"): "version 1 is the champion already",
}


@pytest.mark.parametrize("arguments", REHEARSALS, ids=" ".join)
def test_a_rehearsal_does_not_say_that_it_was_done(two, name, champion, command, arguments):
    said = command(*arguments)[1]
    assert said.startswith(f"# {name}: {REHEARSALS[arguments]}"), said.splitlines()[0]
    assert champion() == "1"


def test_a_version_is_not_compared_with_itself(two, command):
    assert "version 2 would be compared with itself" in command("compare", "2", "--against", "2")[2]


def test_back_from_a_champion_that_was_deleted(registry, name, two, command):
    assert command("promote")[0] == 0
    registry.delete_model_version(name, "2")
    assert command("rollback")[1] == f"{name}: version 1 is champion again, the one after it was deleted\n"


# --- Entries changed by hand -----------------------------------------------------------------------------------------

EDITS = {
    "a list": lambda entry: [],
    "a text": lambda entry: "promote",
    "null": lambda entry: None,
    "nothing in it": lambda entry: {},
    "a kind that is none": lambda entry: {**entry, "kind": "promoted"},
    "a kind that is a number": lambda entry: {**entry, "kind": 7},
    "a version that is a number": lambda entry: {**entry, "version": 1},
    "after as text": lambda entry: {**entry, "after": "0"},
    "after as yes": lambda entry: {**entry, "after": True},
    "no reason": lambda entry: {**entry, "reason": None},
    "before as null": lambda entry: {**entry, "before": None},
    "before with numbers": lambda entry: {**entry, "before": [1]},
    "taken back as a list": lambda entry: {**entry, "taken_back": [1]},
    "taken back with numbers": lambda entry: {**entry, "taken_back": {"1": 2}},
    "decision as null": lambda entry: {**entry, "decision": None},
    "gates as a number": lambda entry: {**entry, "decision": {"gates": 7}},
    "a gate as text": lambda entry: {**entry, "decision": {"gates": ["Dice"]}},
    "a key more": lambda entry: {**entry, "note": "mine"},
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_entry_changed_by_hand_is_named_by_every_action(registry, name, two, champion, command, edit):
    entry = json.loads(registry.get_model_version(name + SUFFIX, "1").tags[TAG])
    registry.set_model_version_tag(name + SUFFIX, "1", TAG, json.dumps(EDITS[edit](entry)))
    for action in ("history", "page", "show", "promote", "rollback"):
        code, _, said = command(action, *(["--dry-run"] if action == "page" else []))
        assert (code, said.count("\n")) == (1, 1)
        assert f"version 1 of {name}{SUFFIX} is no entry of a ledger" in said, action
        assert "put the tag back as it was, or find out who did it and accept it: hymunet models acknowledge 1" in said
    assert "not in order: entry 1 of the ledger was changed and does not count; it says" in command("verify")[1]
    assert champion() == "1"


# --- Files changed in the store --------------------------------------------------------------------------------------


@pytest.fixture
def sealed(registry, name, two):
    """Gives both versions a manifest; returns where their files are."""
    folders = {}
    for number in ("1", "2"):
        place = registry.get_model_version_download_uri(name, number).removeprefix("file://")
        folders[number] = Path(place)
        content = seal.manifest(folders[number])
        (folders[number] / seal.MANIFEST).write_bytes(content)
        registry.set_model_version_tag(name, number, seal.MANIFEST_TAG, seal.hashlib.sha256(content).hexdigest())
    return folders


def better_calibrated(folder):
    record = json.loads((folder / "evaluation/metrics.json").read_text())
    record["calibration"]["band"]["ece"] = 0.0
    (folder / "evaluation/metrics.json").write_text(json.dumps(record))


def listed_anew(folder):
    better_calibrated(folder)
    (folder / seal.MANIFEST).write_bytes(seal.manifest(folder))


FORGERIES = {
    "metrics.json": (better_calibrated, "evaluation/metrics.json was changed"),
    "the manifest with it": (listed_anew, "manifest.json was changed"),
    "no manifest": (lambda folder: (folder / seal.MANIFEST).unlink(), "manifest.json is not there"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize(("whose", "gate"), [("1", "same test images"), ("2", "records")])
def test_changed_records_of_either_version_decide_nothing_even_where_no_contract_is_asked_for(
    sealed, champion, command, forgery, whose, gate
):
    forge, named = FORGERIES[forgery]
    assert command("promote", "--dry-run")[0] == 0
    forge(sealed[whose])
    code, said, refusal = command("promote")
    assert (code, champion()) == (1, "1")
    assert gate in refusal
    assert named in said


DAMAGES = {
    "calibration is text": ("evaluation/metrics.json", b'"ece": 0.02', b'"ece": "low"', "calibration.band.ece = 'low'"),
    "calibration is a list": ("evaluation/metrics.json", b'"ece": 0.02', b'"ece": [0]', "calibration.band.ece = [0]"),
    "calibration is NaN": ("evaluation/metrics.json", b'"ece": 0.02', b'"ece": NaN', "calibration.band.ece = nan"),
    "calibration below 0": ("evaluation/metrics.json", b'"ece": 0.02', b'"ece": -5', "calibration.band.ece = -5"),
    "a row that ends early": ("evaluation/per_image.csv", b"\nt0029,", b"\nt0028\nt0029,", "per_image.csv is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_fails_its_gate_and_ends_nothing(registry, name, two, champion, command, damage):
    file, now, then, named = DAMAGES[damage]
    path = Path(registry.get_model_version_download_uri(name, "2").removeprefix("file://")) / file
    content = path.read_bytes()
    assert now in content
    path.write_bytes(content.replace(now, then))
    code, said, refusal = command("promote")
    assert (code, champion(), refusal.count("\n")) == (1, "1", 1)
    assert named in said


METRICS, TABLE = "evaluation/metrics.json", "evaluation/per_image.csv"
LACKING = {  # what becomes of a file -> what is said to be missing, and why
    "metrics.json is gone": (
        METRICS,
        None,
        f"the record of its test images, test_images_sha256 of metrics.json (no {METRICS})",
    ),
    "metrics.json is empty": (METRICS, b"", f"of metrics.json ({METRICS} is no JSON record)"),
    "metrics.json is cut off": (METRICS, b'{"test": {', f"of metrics.json ({METRICS} is no JSON record)"),
    "metrics.json is a list": (METRICS, b"[]", f"of metrics.json ({METRICS} is no JSON record)"),
    "metrics.json is no text": (METRICS, bytes(range(255)), f"of metrics.json ({METRICS} is no JSON record)"),
    "metrics.json lacks it": (METRICS, b"{}", "the record of its test images, test_images_sha256 of metrics.json; "),
    "per_image.csv is gone": (TABLE, None, f"the scores of its test images (no {TABLE})"),
    "per_image.csv is damaged": (TABLE, b"id,dice\n", f"the scores of its test images ({TABLE} is damaged"),
}
REMEDIES = {"1": "put that file back where its artifacts are, or promote without", "2": "register it again"}


@pytest.mark.parametrize("whose", REMEDIES)
@pytest.mark.parametrize("lacking", LACKING)
def test_what_a_version_lacks_to_be_compared_is_named_with_the_remedy(
    registry, name, two, champion, command, lacking, whose
):
    file, content, words = LACKING[lacking]
    path = Path(registry.get_model_version_download_uri(name, whose).removeprefix("file://")) / file
    path.unlink() if content is None else path.write_bytes(content)
    (same,) = (line for line in command("compare")[1].splitlines() if line.startswith("- same test images"))
    assert same.startswith(f"- same test images: version {whose} does not hold ")
    assert words in same
    assert REMEDIES[whose] in same
    assert "other images" not in same


def test_a_card_that_is_no_text_is_named(registry, name, two, command):
    place = Path(registry.get_model_version_download_uri(name, "1").removeprefix("file://"))
    (place / "card.md").write_bytes(b"\xff\xfe")
    assert f"{name} version 1: card.md is no UTF-8 text" in command("card")[2]


# --- A server that fails between the entry and the alias -------------------------------------------------------------


@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_a_decision_whose_alias_cannot_be_set_is_told_as_standing(
    registry, name, two, champion, command, action, monkeypatch
):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    stands, entry = "2", 2
    if action == "rollback":
        command("promote")
        stands, entry = "1", 3

    def refused(*_):
        raise MlflowException("read only")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", refused)
        code, _, said = command(action)
    assert code == 1
    assert f"version {stands} of {name} is champion by entry {entry} of the ledger, but the alias champion" in said
    assert command("verify")[0] == 0
    assert champion() == stands
