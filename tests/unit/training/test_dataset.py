"""The prepared arrays: what is refused, and that training cannot reach the test split."""

import ast
import pickle

import numpy as np
import pytest
import torch

from hymunet.data.feed.dataset import Prepared, TrainingData
from hymunet.images import normalise
from tests.support.training_data import ROOT


def test_rows_and_ids_follow_the_split_file(inputs):
    prepared = Prepared(inputs.prepared)
    rows = prepared.split(inputs.split)
    assert {name: len(members) for name, members in rows.items()} == {"train": 20, "validation": 6, "test": 4}
    assert sorted(np.concatenate(list(rows.values()))) == list(range(30))
    assert [prepared.ids(inputs.split)[row] for row in rows["test"]] == [f"image{row:04d}" for row in range(26, 30)]


def test_subsets_are_the_rows_of_their_split(inputs):
    images, masks = np.load(inputs.prepared / "images.npy"), np.load(inputs.prepared / "masks.npy")
    subset = TrainingData(inputs.prepared, inputs.split).subset("validation")
    assert len(subset) == 6
    assert (subset.arrays()[0] == images[20:26]).all()
    assert (subset[2][1] == masks[22]).all()
    assert subset.ids[2] == "image0022"


@pytest.mark.parametrize(("empty", "refused"), [(range(19), False), (range(20), True), (range(20, 30), False)])
def test_a_training_without_any_lesion_is_refused(inputs, empty, refused):
    """Rows 0 to 19 train."""
    masks = np.load(inputs.prepared / "masks.npy")
    masks[list(empty)] = 0
    np.save(inputs.prepared / "masks.npy", masks)
    if refused:
        with pytest.raises(ValueError, match=r"split.csv: no training image shows a lesion, all masks are empty"):
            TrainingData(inputs.prepared, inputs.split)
    else:
        TrainingData(inputs.prepared, inputs.split)


def test_the_test_split_is_closed_to_training(inputs):
    with pytest.raises(ValueError, match="test split is closed to training"):
        TrainingData(inputs.prepared, inputs.split).subset("test")


def test_training_code_opens_images_only_through_the_closed_door():
    """No module of the training, nor its program, reads arrays other than by TrainingData."""
    for path in [*(ROOT / "hymunet" / "training").glob("*.py"), ROOT / "components" / "train" / "__main__.py"]:
        tree = ast.parse(path.read_text())
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not names & {"load_npy", "memmap", "open_memmap", "_images", "_masks", "_rows"}, path
        calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        reads = {call for call in calls if call.startswith(("np.load", "numpy.load", "Prepared("))}
        assert reads <= {"Prepared(paths.prepared)", "Prepared(paths.prepared).description()"}, (path, reads)


def test_normalise_maps_to_minus_one_and_one_in_channels_last():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1).expand(1, 1, 2, 3).contiguous()
    result = normalise(images)
    assert result.shape == (1, 3, 1, 2)
    assert result[0, :, 0].tolist() == [[-1.0, 1.0]] * 3
    assert result.dtype == torch.float32
    assert normalise(torch.zeros(2, 8, 8, 3, dtype=torch.uint8)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["images.npy", "masks.npy"])
def test_damaged_arrays_are_named(inputs, name):
    path = inputs.prepared / name
    whole = path.read_bytes()
    for content in (whole[:50], whole[:-100], b"", b"not an array at all"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=name):
            TrainingData(inputs.prepared, inputs.split)
    path.unlink()
    with pytest.raises(ValueError, match=f"{name}: no such file"):
        TrainingData(inputs.prepared, inputs.split)


def test_arrays_of_another_type_are_refused(inputs):
    """Not-a-number cannot reach a training: what is not uint8 does not come in."""
    images = np.load(inputs.prepared / "images.npy").astype(np.float32)
    images[3, 4] = np.nan
    np.save(inputs.prepared / "images.npy", images)
    with pytest.raises(ValueError, match="expected uint8"):
        TrainingData(inputs.prepared, inputs.split)


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickled_array_is_never_executed(inputs, tmp_path):
    np.save(inputs.prepared / "images.npy", np.array([Canary(tmp_path / "canary")], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"images\.npy"):
        TrainingData(inputs.prepared, inputs.split)
    assert not (tmp_path / "canary").exists()
    (inputs.prepared / "images.npy").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(ValueError, match=r"images\.npy"):
        TrainingData(inputs.prepared, inputs.split)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id,group,split\nimage0000,0,train\n", "lists 1 images, .*prepared holds 30"),
        ("id,group\nimage0000,0\n", "expected columns"),
        ("id,group,split\n" + "".join(f"image{i:04d},{i},training\n" for i in range(30)), "expected columns"),
        ("id,group,split\n" + "".join(f"image{i:04d},{i},train\n" for i in range(30)), "no image in validation, test"),
        ("id,group,split\n" + "".join(f"image{29 - i:04d},{i},train\n" for i in range(30)), "not sorted"),
        ("", "lists 0 images"),
    ],
)
def test_bad_split_files_are_refused(inputs, text, problem):
    inputs.split.write_text(text)
    with pytest.raises(ValueError, match=problem):
        TrainingData(inputs.prepared, inputs.split)
