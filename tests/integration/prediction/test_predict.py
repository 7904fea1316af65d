"""`hymunet predict` from files to files: what is written, what is done again and what is not, and what stops it."""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from hymunet import cli, images
from hymunet.data.acquire.synthetic import draw
from hymunet.evaluation import familiar
from hymunet.evaluation.confidence import soft_dice
from hymunet.inference import Segmenter
from hymunet.portable import export
from hymunet.prediction.packing import pack
from hymunet.prediction.run import Run
from hymunet.prediction.table import Table
from hymunet.registry.load import open_segmenter
from tests.support.image_files import png_of
from tests.support.versions import untrained
from tests.unit.prediction.test_regions import unrolled

SIZE = 32


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two untrained models, whose thresholds are their median probability, so that they find something."""
    found = []
    for seed in range(2):
        folder = untrained(tmp_path_factory.mktemp("model"), SIZE, seed)
        segmenter = Segmenter.load(folder)
        info = json.loads((folder / "model.json").read_text())
        image = images.resize(draw(0, 64, 7)[0], SIZE)
        info["threshold"] = round(float(np.median(segmenter.probabilities(image[None]))), 4)
        (folder / "model.json").write_text(json.dumps(info))
        found.append(folder)
    return found


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """Five images of several sizes, in and below `scans`; the working directory is above it."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.png", "b.jpg", "sub/a.png", "sub/deep/c.png", "sub/d.png")):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = 40 + 9 * number, 70 - 7 * number
        cv2.imwrite(str(path), cv2.resize(draw(number, 64, 7)[0], (width, height)))
    return tmp_path / "scans"


def predict(*arguments):
    return cli.main(["predict", *map(str, arguments), "--output", "out"])


def rows():
    with open("out/predictions.csv", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def files():
    return sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file())


def pixels(name):
    return cv2.imread(f"out/{name}", cv2.IMREAD_UNCHANGED)


def test_every_kind_of_result_is_of_the_mask_at_the_image_s_own_size(folders, scans):
    kinds = "mask,overlay,probability,contours,coco"
    assert predict("scans", "--model", folders[0], "--save", kinds) == 0
    segmenter, names = Segmenter.load(folders[0]), ["a", "b", "sub/a", "sub/d", "sub/deep/c"]
    assert list(rows()) == names
    coco = json.loads(Path("out/predictions.coco.json").read_text())
    for number, name in enumerate(names, 1):
        row = rows()[name]
        image = images.read(Path(row["image"]))
        (mask,) = segmenter.masks([image])
        np.testing.assert_array_equal(pixels(f"{name}_mask.png"), 255 * mask)
        assert mask.any()
        assert (row["width"], row["height"]) == tuple(map(str, mask.shape[::-1]))
        assert int(row["area_pixels"]) == mask.sum()
        assert int(row["components"]) == cv2.connectedComponents(mask, connectivity=8)[0] - 1
        probability = pixels(f"{name}_probability.png") / np.float32(255)
        assert float(row["confidence"]) == pytest.approx(soft_dice(probability, mask), abs=0.01)
        changed = (pixels(f"{name}_overlay.png")[..., ::-1] != image).any(-1)
        assert not (changed & ~(cv2.dilate(mask, np.ones((5, 5), np.uint8)) > 0)).any(), "nothing away from the mask"
        contours = json.loads(Path(f"out/{name}_contours.json").read_text())
        assert sum(region["area_pixels"] for region in contours["regions"]) == mask.sum()
        annotations = [one for one in coco["annotations"] if one["image_id"] == number]
        rolled = sum(unrolled(one["segmentation"]["counts"], mask.shape) for one in annotations)
        np.testing.assert_array_equal(rolled, mask)
        assert coco["images"][number - 1]["file_name"] == row["image"]
    assert len(files()) == 4 * len(names) + 2


def test_an_image_alone_is_enough(scans, capsys):
    """The package's own model, where none was trained, into a folder of a fixed name."""
    assert cli.main(["predict", "scans/a.png"]) == 0
    assert "1 image segmented: predictions/predictions.csv" in capsys.readouterr().out
    assert sorted(path.name for path in Path("predictions").iterdir()) == [
        "a_mask.png",
        "a_overlay.png",
        "predictions.csv",
    ]


def test_what_is_done_is_left_and_what_changed_is_done_again(folders, scans, capsys):
    command = ("scans", "--model", folders[0], "--save", "mask")
    assert predict(*command) == 0
    before = {name: Path("out", name).stat().st_mtime_ns for name in files() if name.endswith(".png")}
    Path("out/a_mask.png").unlink()
    cv2.imwrite("scans/b.jpg", draw(9, 50, 7)[0])
    capsys.readouterr()
    assert predict(*command) == 0
    assert "2 images segmented, 3 were there already" in capsys.readouterr().out
    after = {name: Path("out", name).stat().st_mtime_ns for name in before}
    assert {name for name in before if after[name] != before[name]} == {"a_mask.png", "b_mask.png"}
    assert predict("scans", "--model", folders[1], "--save", "mask") == 0
    assert "5 images segmented: " in capsys.readouterr().out, "another model's masks are others"


@pytest.mark.parametrize("changed", ["model", "image"])
def test_no_file_of_an_earlier_model_or_image_passes_for_one_of_the_row(folders, scans, changed):
    """Other kinds were asked for in between: files and rows are of one model and one image all the same."""
    assert predict("scans", "--model", folders[0], "--save", "mask,contours") == 0
    earlier = Path("out/a_mask.png").read_bytes()
    model = folders[changed == "model"]
    if changed == "image":
        cv2.imwrite("scans/a.png", cv2.resize(draw(9, 50, 7)[0], (70, 40)))
    assert predict("scans", "--model", model, "--save", "probability") == 0
    assert predict("scans", "--model", model, "--save", "mask,coco") == 0
    assert cli.main(["predict", "scans", "--model", str(model), "--save", "mask,coco", "--output", "new"]) == 0
    assert Path("out/a_mask.png").read_bytes() != earlier
    for name in ("a_mask.png", "a_contours.json", "predictions.coco.json"):
        assert Path("out", name).read_bytes() == Path("new", name).read_bytes()


def test_a_run_that_was_killed_between_files_and_row_leaves_no_row_of_the_model_before(folders, scans, monkeypatch):
    command = ("scans/a.png", "--save", "mask")
    assert predict(*command, "--model", folders[0]) == 0
    earlier = Path("out/a_mask.png").read_bytes()
    code = "import os; from hymunet import cli; from hymunet.prediction.table import Table\n"
    code += "Table.add = lambda *_: os._exit(9)\ncli.main({!r})"
    killed = ["predict", *command, "--model", str(folders[1]), "--output", "out"]
    assert subprocess.run([sys.executable, "-c", code.format(killed)]).returncode == 9
    assert Path("out/a_mask.png").read_bytes() != earlier
    assert list(Table(Path("out")).rows()) == []
    assert predict(*command, "--model", folders[0]) == 0
    assert Path("out/a_mask.png").read_bytes() == earlier
    assert list(rows()) == ["a"]


def test_a_file_of_contours_that_was_cut_off_is_named_and_nothing_half_done_stays(folders, scans, capsys):
    command = ("scans", "--model", folders[0], "--save", "coco")
    assert predict(*command) == 0
    before = Path("out/predictions.coco.json").read_bytes()
    cut = Path("out/sub/a_contours.json")
    cut.write_bytes(cut.read_bytes()[:80])
    assert predict(*command) == 1
    assert "out/sub/a_contours.json: not valid JSON" in (said := capsys.readouterr().err)
    assert "; remove it, and it is made again" in said
    assert Path("out/predictions.coco.json").read_bytes() == before
    assert not list(Path("out").glob(".*"))
    cut.unlink()
    assert predict(*command) == 0
    assert Path("out/predictions.coco.json").read_bytes() == before


def test_a_run_that_was_stopped_goes_on(folders, scans, monkeypatch, capsys):
    whole, count = Run._write, iter(range(9))

    def stopping(self, *arguments):
        if next(count) == 2:
            raise OSError(28, "No space left on device")
        return whole(self, *arguments)

    monkeypatch.setattr(Run, "_write", stopping)
    assert predict("scans", "--model", folders[0]) == 1
    assert "No space left" in capsys.readouterr().err
    with open("out/predictions.csv", "a") as file:
        file.write("torn,row")
    monkeypatch.setattr(Run, "_write", whole)
    assert predict("scans", "--model", folders[0]) == 0
    said = capsys.readouterr().out
    assert "there already" in said
    assert "0 were" not in said
    assert sorted(rows()) == ["a", "b", "sub/a", "sub/d", "sub/deep/c"]


def test_several_models_are_one_by_their_mean(folders, scans):
    models = [argument for folder in folders for argument in ("--model", folder)]
    assert predict("scans", *models, "--save", "mask,probability") == 0
    segmenters = [Segmenter.load(folder) for folder in folders]
    threshold = np.float32(np.mean([segmenter.threshold for segmenter in segmenters]))
    for name, row in rows().items():
        image = images.read(Path(row["image"]))
        small = images.resize(image, SIZE)[None]
        shape = image.shape[1::-1]
        each = [cv2.resize(segmenter.probabilities(small)[0], shape) for segmenter in segmenters]
        mean = (each[0] + each[1]) / 2
        np.testing.assert_array_equal(pixels(f"{name}_mask.png"), 255 * (mean > threshold))
        one, other = (found > np.float32(part.threshold) for found, part in zip(each, segmenters, strict=True))
        assert float(row["agreement"]) == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()), abs=1e-4)
    assert len({row["agreement"] for row in rows().values()}) > 1


def test_a_zip_gives_what_its_folder_gives(folders, scans):
    with zipfile.ZipFile("scans.zip", "w") as archive:
        for path in sorted(scans.rglob("*.*")):
            archive.write(path, path.relative_to(scans))
        archive.writestr("cut.jpg", b"\xff\xd8\xff")
        for trick in ("../escaped.png", "/tmp/escaped.png"):
            archive.writestr(trick, Path("scans/a.png").read_bytes())
    assert predict("scans", "--model", folders[0]) == 0
    expected = {name: Path("out", name).read_bytes() for name in files() if name.endswith(".png")}
    os.rename("out", "first")
    assert predict("scans.zip", "--model", folders[0]) == 1, "some could not be read"
    assert {name: Path("out", name).read_bytes() for name in files() if name.endswith(".png")} == expected
    assert sorted(path.name for path in Path().iterdir()) == ["first", "out", "scans", "scans.zip"]


def test_predict_decides_as_the_evaluation_did(folders, scans, capsys):
    weights = json.loads((folders[0] / "model.json").read_text())["weights_sha256"]
    tested = {"threshold": 0.5, "flips": True, "temperature": 1.3, "weights_sha256": weights}
    Path("metrics.json").write_text(json.dumps(tested))
    assert predict("scans/a.png", "--model", folders[0], "--evaluation", ".") == 0
    assert f"exceeds 0.5, averaged over flips (as tested in {Path.cwd()})" in capsys.readouterr().out
    segmenter = Segmenter.load(folders[0], threshold=0.5, flips=True, temperature=1.3)
    (expected,) = segmenter.masks([images.read(Path("scans/a.png"))])
    np.testing.assert_array_equal(pixels("a_mask.png"), 255 * expected)
    both = [argument for folder in folders for argument in ("--model", folder)]
    assert predict("scans/a.png", *both, "--evaluation", ".") == 1
    assert "--evaluation is of one model" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["evaluated", "packed", "exported", "an ensemble", "neither"])
def test_an_image_unlike_those_of_the_training_is_named_by_what_it_is_beyond(folders, scans, capsys, form):
    """In whatever form the model comes; where nothing is known of its training images, the table says that."""
    photos = [draw(number, 64, 7)[:2] for number in range(30)]
    known = familiar.ends((image, 0.0) for image, _ in photos)
    known["ends"]["area_fraction"] = [0.0, 1.0]
    info = json.loads((folders[0] / "model.json").read_text())
    decides = {"threshold": info["threshold"], "flips": False, "temperature": 1.0}
    tested = {**decides, "weights_sha256": info["weights_sha256"], familiar.KEY: known}
    Path("metrics.json").write_text(json.dumps(tested))
    cv2.imwrite("dark.png", photos[0][0][..., ::-1] // 9)
    cv2.imwrite("like.png", photos[1][0][..., ::-1])
    segmenter, _ = open_segmenter(str(folders[0]), Path())
    if form == "packed":
        pack(segmenter, Path("packed"), "", "", "")
    elif form == "exported":
        export.write(segmenter, Path("model.onnx"))
    model = {
        "packed": ["--model", "packed"],
        "exported": ["--model", "model.onnx"],
        "an ensemble": ["--model", "packed", "--model", folders[1]],
        "evaluated": ["--model", folders[0], "--evaluation", "."],
        "neither": ["--model", folders[0]],
    }
    if form == "an ensemble":
        pack(segmenter, Path("packed"), "", "", "")
    assert predict("dark.png", "like.png", *model[form]) == 0
    dark, like = (rows()[name]["out_of_distribution"] for name in ("dark", "like"))
    said = "1 is unlike the images that the model was trained on: column out_of_distribution"
    if form == "neither":
        assert (dark, like) == ("unknown", "unknown")
    else:
        low = known["ends"]["brightness"][0]
        assert re.match(rf"brightness 0\.0\d+ below {low:.3g}; contrast", dark)
        assert like == ("unknown" if form == "an ensemble" else "no")
    assert (said in capsys.readouterr().out) == (form != "neither")


LONG = 123 * "ä" + "l.png"  # a mask's name is nine bytes longer than its stem
REFUSED = {  # sources, what is in the way, what is said
    "no image": (["text.png"], {}, "1 of 1 images cannot be read: text.png is not an image"),
    "some bad": (
        ["text.png", "scans/a.png", "cut.jpg"],
        {},
        "2 of 3 images cannot be read:\n  text.png is not an image",
    ),
    "absent": (["absent.png", "scans/a.png", "gone.png"], {}, "absent.png, gone.png: not there"),
    "one name twice": (["text.png", "more/text.png"], {}, "two images are named text (text.png, more/text.png)"),
    "a true mask": (["scans"], {"out/sub/a_mask.png": b"drawn by hand"}, "out/sub/a_mask.png: there already and not"),
    "a folder of that name": (["scans"], {"out/a_mask.png/x": b""}, "out/a_mask.png: there already and not"),
    "another table": (["scans"], {"out/predictions.csv": b"id,score\n"}, "out/predictions.csv: there already and not"),
    "another COCO": (["scans"], {"out/predictions.coco.json": b"{}"}, "out/predictions.coco.json: there already"),
    "output is a file": (["scans"], {"out": b"x"}, "out: is a file; name another folder"),
    "no such kind": (["scans", "--save", "mask,outline"], {}, "'outline' is none of mask, overlay, probability,"),
    "a model twice": (["scans", "--model", "MODEL"], {}, "is named twice"),
    "a model by two spellings": (["scans", "--model", "MODEL/"], {}, ": the same weights as "),
    "a model and its copy": (["scans", "--model", "COPY"], {}, ": the same weights as "),
    "a threshold that is none": (["scans", "--model", "NAN"], {}, "nan/model.json: threshold = nan: expected a number"),
    "no model": (["scans", "--model", "none"], {}, "train a model first"),
    "an image as the model": (["scans", "--model", "scans/a.png"], {}, "scans/a.png: is a file; a trained model is a"),
    "too long a name": (
        ["scans", LONG],
        {},
        f"1 of 6 images cannot be read: {LONG}: a result's name would be 256 bytes",
    ),
    "absent in a list": (["list.csv"], {"list.csv": b"image\nscans/a.png\ngone.png\n"}, "gone.png: No such file"),
    "more pixels than are taken": (["scans", "--max-pixels", "2799"], {}, "a.png: 70×40 pixels are more than 2,799"),
    "more pixels than are decoded": (
        ["wide.png"],
        {},
        "wide.png has 1,000,001×1 pixels and is too large to be decoded",
    ),
    "no pixels": (["scans", "--max-pixels", "0"], {}, "--max-pixels 0 must be at least 1"),
    "no address": (["scans", "--model", "models:/hymunet"], {}, "expected models:/NAME@ALIAS"),
}


def model_named(source, folder):
    if source == "NAN":
        described = json.loads(Path(shutil.copytree(folder, folder.parent / "nan"), "model.json").read_text())
        Path(folder.parent, "nan/model.json").write_text(json.dumps({**described, "threshold": math.nan}))
        return str(folder.parent / "nan")
    if source == "COPY":
        return shutil.copytree(folder, str(folder.parent / "copy"))
    return source.replace("MODEL", str(folder))


@pytest.mark.parametrize("case", REFUSED)
def test_predict_refuses_what_it_cannot_do_and_harms_nothing(folders, scans, capsys, case):
    sources, in_the_way, message = REFUSED[case]
    others = {
        "wide.png": png_of(1_000_001, 1),
        "text.png": b"no image",
        "cut.jpg": b"\xff\xd8\xff",
        "more/text.png": b"",
        **in_the_way,
    }
    if case == "too long a name":
        others[LONG] = b""
    for name, content in others.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
    sources = [model_named(source, folders[0]) for source in sources]
    kinds = () if "--save" in sources else ("--save", "mask,coco" if case == "another COCO" else "mask")
    assert predict(*sources, "--model", folders[0], *kinds) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("hymunet predict: ")
    for name, content in in_the_way.items():
        assert Path(name).read_bytes() == content
    if case in ("some bad", "absent in a list"):
        written = {name.rpartition("/")[2] for name in files()}
        assert written == {"a_mask.png", "predictions.csv"}, "the good one is written all the same"
    elif case == "too long a name":
        assert sorted(rows()) == ["a", "b", "sub/a", "sub/d", "sub/deep/c"], "the others are written all the same"
    elif not in_the_way:
        assert files() == []


def test_a_link_out_of_the_output_is_not_followed(folders, scans, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    Path("out").mkdir()
    os.symlink(tmp_path / "elsewhere", "out/sub")
    assert predict("scans", "--model", folders[0]) == 1
    assert "out/sub, out/sub/deep: a link that leads out of out" in capsys.readouterr().err
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_predict_replaces_what_it_wrote_itself(folders, scans, capsys):
    for model in folders:
        assert predict("scans/a.png", "--model", model) == 0
    cv2.imwrite("out/a_mask.png", draw(0, 64, 7)[1])
    assert predict("scans/a.png", "--model", folders[0]) == 1
    assert "there already and not written by this command" in capsys.readouterr().err


def test_a_trained_model_finds_lesions(finished_training, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overlaps = []
    for index, size in enumerate([(50, 70), (64, 40)]):
        image, truth = (cv2.resize(drawn, size[::-1], interpolation=cv2.INTER_NEAREST) for drawn in draw(index, 64, 7))
        cv2.imwrite(f"lesion{index}.png", image[..., ::-1])
        assert predict(f"lesion{index}.png", "--model", finished_training / "artifacts/model") == 0
        mask = pixels(f"lesion{index}_mask.png")
        overlaps.append(2 * ((mask > 0) & (truth > 0)).sum() / ((mask > 0).sum() + (truth > 0).sum()))
    assert np.mean(overlaps) > 0.5
