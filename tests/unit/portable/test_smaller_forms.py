"""float16 and int8 files: smaller, named as such, judged on images with their truth, and refused where they lose."""

import json
import re
import shutil

import numpy as np
import pytest

from hymunet import cli
from hymunet.inference import Segmenter
from hymunet.portable import benchmark, export, prepared, reduce
from hymunet.portable.measure import MARGIN, Row, measure
from hymunet.prediction.ensemble import Ensemble
from hymunet.prediction.onnx_file import OnnxModel
from tests.support import small_project

pytest.importorskip("onnxruntime", reason="ONNX is an extra: pip install hymunet[export]")
pytest.importorskip("onnxscript", reason="ONNX is an extra: pip install hymunet[export]")


@pytest.fixture(scope="module")
def project(unet_project):
    return unet_project


def command(project, verb, *options):
    data = ["--prepared", str(project / "data/prepared"), "--split", str(project / "data/split/split.csv")]
    return cli.main([verb, "--model", str(project / "artifacts/model"), *data, *map(str, options)])


@pytest.fixture(scope="module")
def files(project, tmp_path_factory):
    """Form -> its file."""
    folder = tmp_path_factory.mktemp("forms")
    segmenter = Segmenter.load(project / "artifacts/model", device="cpu")
    images = prepared.open_images(segmenter, project / "data/prepared", project / "data/split/split.csv", "validation")
    found = {form: folder / f"{form}.onnx" for form in reduce.FORMS}
    export.write(segmenter, found["float32"])
    for form in ("float16", "int8"):
        shutil.copyfile(found["float32"], found[form])
        reduce.reduce(found[form], form, images.calibration())
    return found


def test_a_form_that_keeps_dice_is_written(project, tmp_path, capsys):
    path = tmp_path / "model.onnx"
    assert command(project, "export", "--format", "float16", "--output", path) == 0
    assert re.search(r"model.onnx: Dice 0\.\d+, [+-]0\.00\d+ \(95 % interval .* over 8 images", capsys.readouterr().out)
    assert [found.name for found in tmp_path.iterdir()] == ["model.onnx"]
    assert OnnxModel(path).facts["format"] == "float16"


def test_smaller_files_are_smaller_and_say_what_they_are(files):
    size = {form: path.stat().st_size for form, path in files.items()}
    assert size["float16"] < 0.55 * size["float32"]
    assert size["int8"] < 0.45 * size["float32"]
    facts = {form: OnnxModel(path).facts for form, path in files.items()}
    assert [facts[form]["format"] for form in ("float16", "int8")] == ["float16", "int8"]
    assert len({json.dumps(one) for one in facts.values()}) == 3, "predict tells their results apart"
    for one in facts.values():
        assert {**one, "format": ""} == {**facts["float32"], "format": ""}, "all else is the model's"


def test_their_probabilities_are_the_model_s_up_to_rounding(project, files):
    """Bounds far apart, so that neither form can stand in for the other."""
    images = np.load(project / "data/prepared/images.npy")[20:28]
    expected = Segmenter.load(project / "artifacts/model", device="cpu").probabilities(images)
    error = {
        form: np.abs(np.stack([OnnxModel(path).run(image)[1] for image in images]) - expected).max()
        for form, path in files.items()
    }
    assert error["float32"] < 1e-4
    assert 0 < error["float16"] < 0.01
    assert error["float16"] < error["int8"] < 0.5


def test_a_form_that_loses_dice_is_not_written(project, tmp_path, monkeypatch, capsys):
    """Calibrated on black images, 8 bits hold nothing of the others."""
    black = np.zeros((small_project.SIZE, small_project.SIZE, 3), np.uint8)
    monkeypatch.setattr(prepared.Images, "calibration", lambda self: iter([black]))
    assert command(project, "export", "--format", "int8", "--output", tmp_path / "model.onnx") == 1
    assert f"that may be more than {MARGIN}; nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "int8", "--check", "x"], "--check compares float32 files"),
        (["--format", "int8", "--split", "nowhere.csv"], "nowhere.csv"),
        (["--format", "float16", "--prepared", "nowhere"], "nowhere"),
    ],
)
def test_what_a_form_cannot_be_judged_by_is_named(project, tmp_path, capsys, options, message):
    assert command(project, "export", "--output", tmp_path / "model.onnx", *options) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_weight_beyond_float16_is_named(project, files, tmp_path):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(files["float32"])
    tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = 1e6
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=f"{tensor.name}: holds 1e"):
        reduce.halve(tmp_path / "model.onnx")


def test_benchmark_measures_every_form_on_the_test_images(project, tmp_path, capsys):
    path = tmp_path / "figures.json"
    assert command(project, "benchmark", "--json", path) == 0
    record = json.loads(path.read_text())
    shown = capsys.readouterr().out
    assert benchmark.table(record) in shown
    rows = {row["form"]: row for row in record["rows"]}
    assert set(rows) - {"torch bf16"} == {"torch float32", *(f"ONNX Runtime {form}" for form in reduce.FORMS)}
    assert record["images"] == small_project.TEST
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in rows.values())
    segmenter = Segmenter.load(project / "artifacts/model", device="cpu")
    images, masks = (np.load(project / f"data/prepared/{name}.npy")[28:] for name in ("images", "masks"))
    found = np.stack(segmenter.masks(list(images)))
    own = np.mean([2 * (a & b).sum() / max(1, a.sum() + b.sum()) for a, b in zip(found, masks, strict=True)])
    assert rows["torch float32"]["dice"] == pytest.approx(own)
    assert rows["torch float32"]["difference"] is None
    assert abs(rows["ONNX Runtime float32"]["difference"]["mean"]) < 1e-4
    assert rows["ONNX Runtime int8"]["mb"] < rows["ONNX Runtime float16"]["mb"] < rows["ONNX Runtime float32"]["mb"]
    assert command(project, "benchmark", "--images", 0) == 1


class Shifted:
    """A model whose mask is the image's red channel, moved by so many columns."""

    threshold, flips, largest_region, facts, decides, trained_on = 0.5, False, False, {}, "", None

    def __init__(self, columns):
        self.columns = columns

    def prepare(self, image):
        return image

    def compute(self, prepared):
        return prepared

    def finish(self, computed, shape):
        return np.roll(computed[..., 0], self.columns, 1).astype(np.float32)


def test_the_interval_is_of_the_paired_difference():
    rng = np.random.default_rng(0)
    truths = [(rng.random((16, 16)) < 0.5).astype(np.uint8) for _ in range(40)]
    pairs = [(np.repeat(truth[..., None], 3, 2), truth) for truth in truths]
    forms = {"float32": Ensemble([Shifted(0)]), "same": Ensemble([Shifted(0)]), "moved": Ensemble([Shifted(3)])}
    first, same, moved = measure(forms, pairs, None)
    assert (first.dice, first.difference, first.within) == (1.0, None, True)
    assert same.difference == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert same.within
    assert moved.difference["mean"] == pytest.approx(moved.dice - 1)
    assert moved.difference["low"] < moved.difference["mean"] < moved.difference["high"] < -0.4
    with pytest.raises(ValueError, match=r"x: as moved Dice .* over 40 images; that may be more than"):
        moved.require("x")
    with pytest.raises(ValueError, match="no image"):
        measure(forms, [], None)


@pytest.mark.parametrize(("low", "within"), [(-MARGIN, True), (-MARGIN - 1e-6, False), (0.1, True)])
@pytest.mark.parametrize("groups", [1, 2, 40])
def test_the_lower_bound_decides_where_there_are_groups(low, within, groups):
    row = Row("int8", (1.0,), 0.9, {"mean": 0.2, "low": low, "high": 0.3}, groups)
    assert row.within == (within and groups > 1)


@pytest.mark.parametrize(
    ("count", "groups", "said"),
    [
        (1, None, "on one image, which tells nothing of others; that may be more than"),
        (4, ["ann"] * 4, "on 4 images of one group, which tells nothing of others; that may be more than"),
        (2, None, "over 2 images; that may be more than"),
        (4, list("aabb"), "over 4 images; that may be more than"),
    ],
)
def test_few_images_are_refused_as_well(count, groups, said):
    """Of 800 pixels three are lost, in one image alone: little, and of how many others?"""
    truth = np.zeros((40, 40), np.uint8)
    truth[:20] = 1
    truths = [np.roll(truth, row, 0) for row in range(count)]
    pairs = [(np.repeat(one[..., None], 3, 2), one) for one in truths]

    class Losing(Shifted):
        """It finds nothing in the top left, three pixels of the first image's lesion."""

        def finish(self, computed, shape):
            found = super().finish(computed, shape)
            found[0, :3] = 0
            return found

    _, small = measure({"float32": Ensemble([Shifted(0)]), "small": Ensemble([Losing(0)])}, pairs, groups)
    assert not small.within
    with pytest.raises(ValueError, match=said):
        small.require("x")


def test_calibration_never_sees_an_image_that_is_judged(project, tmp_path):
    segmenter = Segmenter.load(project / "artifacts/model", device="cpu")
    folder, split = project / "data/prepared", project / "data/split/split.csv"
    images = prepared.open_images(segmenter, folder, split, "validation", 5)
    seen = {image.tobytes() for image in images.calibration()}
    judged = [image.tobytes() for image, _ in images.pairs()]
    assert (len(seen), len(judged), len(images.groups)) == (20, 5, 5)
    assert not seen & set(judged)
    other = tmp_path / "other.csv"
    other.write_text(split.read_text().replace("validation", "test"))
    with pytest.raises(ValueError, match="the model was trained on part of this very set"):
        prepared.open_images(segmenter, folder, other, "test")
