"""A training that begins beside another run's checkpoints says so, says why it is another run, and leaves them."""

import re

import pytest

from hymunet import params
from hymunet.training import identity
from hymunet.training.checkpoint import Checkpoint, Checkpoints
from hymunet.training.checkpoint_store import Folder
from hymunet.training.others import left_alone
from tests.support.training_data import sections

MODEL, TRAIN = sections(epochs=3)
OURS = {"model": MODEL.model_dump(), "train": TRAIN.model_dump(), "facts": {"device": "cpu"}, "data_sha256": "d" * 64}


def changed(section: str, key: str, value: object) -> dict:
    return {**OURS, section: {**OURS[section], key: value}}


OTHERS = {  # another run -> what is said of it
    **{
        f"train.{key}": (changed("train", key, "other"), re.escape(f"train.{key}: {getattr(TRAIN, key)} here, other"))
        for key in sorted(params.Train.model_fields.keys() - identity.IMMATERIAL - {"epochs"})
    },
    **{
        f"model.{key}": (changed("model", key, "other"), f"model.{key}: {value} here, other there")
        for key, value in OURS["model"].items()
    },
    "more epochs": (changed("train", "epochs", 9), "train.epochs: 3 here, 9 there"),
    "another device": (changed("facts", "device", "cuda"), "facts.device: cpu here, cuda there"),
    "other images": ({**OURS, "data_sha256": "e" * 64}, "data_sha256: dddddddd here, eeeeeeee there"),
    "much": (
        {**OURS, "train": dict.fromkeys(OURS["train"], 9)},
        rf"train.\w+: .*; and {len(OURS['train']) - 4} more",
    ),
}


def left(root, content, epochs):
    """Checkpoints of that run, so many epochs on."""
    folder = root / identity.run_key(content)
    Checkpoints(Folder(folder), content).save(Checkpoint(epochs, {}, {"history": [{}] * epochs}))
    return folder


@pytest.mark.parametrize("case", OTHERS)
def test_another_run_s_checkpoint_is_named_with_what_differs(case, tmp_path):
    theirs, words = OTHERS[case]
    folder = left(tmp_path, theirs, 2)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    said = left_alone(str(tmp_path), OURS)
    assert said is not None
    assert said.startswith(f"begins at step 0, not from {folder} (epoch 2 of {theirs['train']['epochs']})")
    assert re.search(words, said)
    assert said.endswith("it stays there, and goes on with its own settings")
    assert "\n" not in said
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_of_several_the_most_similar_is_named_and_what_cannot_be_read_is_none(tmp_path):
    left(tmp_path, {**OURS, "train": dict.fromkeys(OURS["train"], 9)}, 2)
    finished = left(tmp_path, changed("train", "seed", 7), 3)
    assert str(left_alone(str(tmp_path), OURS)).endswith("it stays there, and is finished")
    nearest = left(tmp_path, changed("train", "seed", 8), 1)
    assert str(nearest) in str(left_alone(str(tmp_path), OURS)), "of those that differ as little, one to go on from"
    for path in nearest.glob("*.json"):
        path.write_text("{")
    assert str(finished) in str(left_alone(str(tmp_path), OURS))


@pytest.mark.parametrize("content", [None, "{", '{"manifest": "{}", "sha256": ""}'])
def test_without_another_run_nothing_is_said(content, tmp_path):
    left(tmp_path, OURS, 1)
    if content is not None:
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes/1.json").write_text(content)
    assert left_alone(str(tmp_path), OURS) is None
    assert left_alone(str(tmp_path / "not there"), OURS) is None
    assert left_alone("s3://bucket/prefix", OURS) is None
