"""ISIC's own rules: cases that were counted by hand, the ZIP that its scorer takes, what it refuses."""

import json
import zipfile

import cv2
import numpy as np
import pytest

from hymunet import cli
from hymunet.data.acquire.synthetic import draw
from hymunet.evaluation.measure import image_scores
from hymunet.evaluation.submission import SCORED, score
from hymunet.inference import Segmenter


def rows(*lines):
    """A picture of masks: `#` is lesion."""
    return np.array([[char == "#" for char in line] for line in lines], np.uint8)


def bar(start, stop, width=100, height=1):
    """Columns from start to before stop, of `width`."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, start:stop] = 1
    return mask


NOTHING, ALL = rows("....", "...."), rows("####", "####")
# prediction, truth -> thresholded Jaccard, Jaccard, Dice, accuracy, sensitivity, specificity, counted by hand.
CASES = {
    "the same": (rows("##..", "##.."), rows("##..", "##.."), (1, 1, 1, 1, 1, 1)),
    "nothing, and nothing there": (NOTHING, NOTHING, (1, 1, 1, 1, 1, 1)),
    "all, and all there": (ALL, ALL, (1, 1, 1, 1, 1, 1)),
    "nothing found": (NOTHING, rows("##..", "...."), (0, 0, 0, 6 / 8, 0, 1)),
    "found where nothing is": (rows("#...", "...."), NOTHING, (0, 0, 0, 7 / 8, 1, 7 / 8)),
    "all found where nothing is": (ALL, NOTHING, (0, 0, 0, 0, 1, 0)),
    "nothing found where all is": (NOTHING, ALL, (0, 0, 0, 0, 0, 1)),
    "half of all": (rows("####", "...."), ALL, (0, 4 / 8, 8 / 12, 4 / 8, 4 / 8, 1)),
    "beside it": (rows("##..", "...."), rows("..##", "...."), (0, 0, 0, 4 / 8, 0, 4 / 6)),
    "the other way round": (rows("##..", "##.."), rows("..##", "..##"), (0, 0, 0, 0, 0, 0)),
    "one pixel of one": (rows("#...", "...."), rows("#...", "...."), (1, 1, 1, 1, 1, 1)),
    "one pixel of two": (rows("#...", "...."), rows("##..", "...."), (0, 1 / 2, 2 / 3, 7 / 8, 1 / 2, 1)),
    "two pixels for one": (rows("##..", "...."), rows("#...", "...."), (0, 1 / 2, 2 / 3, 7 / 8, 1, 6 / 7)),
    "two of three: above the threshold": (
        rows("##..", "...."), rows("###.", "...."), (2 / 3, 2 / 3, 4 / 5, 7 / 8, 2 / 3, 1),
    ),
    "three of five: below it": (rows("###.", "...."), rows("####", "#..."), (0, 3 / 5, 6 / 8, 6 / 8, 3 / 5, 1)),
    "65 of 100: exactly at it": (bar(0, 65), bar(0, 100), (0.65, 0.65, 130 / 165, 0.65, 0.65, 1)),
    "13 of 20: at it, where 0.65 is no exact number": (
        bar(0, 13, 40), bar(0, 20, 40), (13 / 20, 13 / 20, 26 / 33, 33 / 40, 13 / 20, 1),
    ),
    "64 of 100: just below it": (bar(0, 64), bar(0, 100), (0, 0.64, 128 / 164, 0.64, 0.64, 1)),
    "65 of 101: below it": (bar(0, 65, 101), bar(0, 101, 101), (0, 65 / 101, 130 / 166, 65 / 101, 65 / 101, 1)),
    "moved by a tenth": (bar(10, 60), bar(5, 55), (45 / 55, 45 / 55, 90 / 100, 0.9, 45 / 50, 45 / 50)),
    "moved by a quarter": (bar(10, 50), bar(20, 60), (0, 30 / 50, 60 / 80, 0.8, 30 / 40, 50 / 60)),
    "too large": (bar(0, 100, 200), bar(0, 80, 200), (0.8, 0.8, 160 / 180, 180 / 200, 1, 100 / 120)),
    "two objects, one found": (
        rows("##....", "##....", "......"), rows("##..##", "##....", "......"),
        (4 / 6, 4 / 6, 8 / 10, 16 / 18, 4 / 6, 1),
    ),
    "a hole that was filled": (
        rows("###", "###", "###"), rows("###", "#.#", "###"), (8 / 9, 8 / 9, 16 / 17, 8 / 9, 1, 0),
    ),
}  # fmt: skip


def png(mask):
    return cv2.imencode(".png", mask)[1].tobytes()


def write(place, masks, ending="_segmentation.png"):
    place.mkdir(parents=True, exist_ok=True)
    for number, mask in enumerate(masks):
        (place / f"ISIC_{number:07}{ending}").write_bytes(png(255 * mask))
    return place


@pytest.mark.parametrize("case", CASES)
def test_one_image_scores_as_counted_by_hand(case, tmp_path):
    prediction, truth, expected = CASES[case]
    found = score(write(tmp_path / "ours", [prediction]), write(tmp_path / "true", [truth]))
    assert found == pytest.approx(dict(zip(SCORED, expected, strict=True)), abs=1e-12)
    ours = image_scores(prediction, truth)
    assert (ours["iou_at_65"], ours["iou"], ours["dice"]) == pytest.approx(expected[:3], abs=1e-12)


def test_the_score_is_the_mean_over_images_whatever_their_sizes(tmp_path):
    predictions, truths, expected = zip(*CASES.values(), strict=True)
    (write(tmp_path / "true", truths) / "LICENSE.txt").write_text("CC-0")
    found = score(write(tmp_path / "ours", predictions, "_prediction.png"), tmp_path / "true")
    assert found == pytest.approx(dict(zip(SCORED, np.mean(expected, 0), strict=True)), abs=1e-12)


def test_lesion_is_above_128_in_a_submission_and_any_second_value_in_the_truth(tmp_path):
    grey = np.array([[0, 128, 129, 255]], np.uint8)
    ours, true = tmp_path / "ours", tmp_path / "true"
    for place, pixels in ((ours, grey), (true, np.array([[0, 0, 7, 7]], np.uint8))):
        place.mkdir()
        (place / "ISIC_0000001_segmentation.png").write_bytes(png(pixels))
    assert score(ours, true)["threshold_jaccard"] == 1


REFUSED = {  # name of the submitted file, its pixels -> what is said; the truth is 4 × 2
    "another size": ("ISIC_0000000.png", np.zeros((4, 2), np.uint8), "2×4 pixels, its image 4×2"),
    "colours": ("ISIC_0000000.png", np.zeros((2, 4, 3), np.uint8), "not of one grey channel"),
    "16 bits": ("ISIC_0000000.png", np.zeros((2, 4), np.uint16), "not of one grey channel"),
    "another image": ("ISIC_0000009.png", np.zeros((2, 4), np.uint8), "0 masks for ISIC_0000000_segmentation.png"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_scorer_refuses_is_named(case, tmp_path):
    name, pixels, message = REFUSED[case]
    true = write(tmp_path / "true", [NOTHING])
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / name).write_bytes(png(pixels))
    with pytest.raises(ValueError, match=message):
        score(tmp_path / "ours", true)


def test_two_masks_of_an_image_and_a_truth_of_three_values_are_refused(tmp_path):
    ours, true = write(tmp_path / "ours", [NOTHING]), write(tmp_path / "true", [NOTHING])
    (ours / "0000000 again.png").write_bytes(png(NOTHING))
    with pytest.raises(ValueError, match="2 masks for ISIC_0000000_segmentation.png; the scorer takes exactly one"):
        score(ours, true)
    (ours / "0000000 again.png").unlink()
    (true / "ISIC_0000000_segmentation.png").write_bytes(png(np.array([[0, 9, 255]], np.uint8)))
    with pytest.raises(ValueError, match="holds other values than 0 and 255"):
        score(ours, true)


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Three photographs of other sizes, with what lies beside them in the official archive; and their masks."""
    monkeypatch.chdir(tmp_path)
    folder, masks = tmp_path / "ISIC2018_Task1-2_Test_Input", []
    folder.mkdir()
    for index, size in enumerate([(90, 70), (64, 64), (40, 120)]):
        image, mask = draw(200 + index, 64, 7)
        cv2.imwrite(str(folder / f"ISIC_{index:07}.jpg"), cv2.resize(image, size)[..., ::-1])
        masks.append(cv2.resize(mask // 255, size, interpolation=cv2.INTER_NEAREST))
    cv2.imwrite(str(folder / "ISIC_0000000_superpixels.png"), np.zeros((70, 90), np.uint8))
    (folder / "LICENSE.txt").write_text("CC-0")
    return folder, write(tmp_path / "masks", masks)


def test_the_command_writes_what_the_scorer_takes(images, finished_training, tmp_path, capsys):
    model = finished_training / "artifacts/model"
    command = ["submission", "--model", str(model), "--images", images[0].name, "--output", "out/ours.zip"]
    assert cli.main([*command, "--masks", "masks"]) == 0
    said = capsys.readouterr().out
    segmenter, expected = Segmenter.load(model), []
    with zipfile.ZipFile(tmp_path / "out/ours.zip") as archive:
        assert archive.namelist() == [f"ISIC_{index:07}_segmentation.png" for index in range(3)]
        for index, name in enumerate(archive.namelist()):
            mask = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_UNCHANGED)
            image = cv2.imread(str(images[0] / f"ISIC_{index:07}.jpg"), cv2.IMREAD_COLOR_RGB)
            assert (mask == 255 * segmenter.masks([image])[0]).all(), "one grey channel, 0 and 255, at the image's size"
            truth = cv2.imread(str(images[1] / name), cv2.IMREAD_GRAYSCALE)
            expected.append(image_scores(mask, truth)["iou_at_65"])
    assert f"threshold_jaccard {np.mean(expected):.4f}" in said
    assert "3 masks" in said
    assert "the official test set has 1,000" in said
    first = (tmp_path / "out/ours.zip").read_bytes()
    with zipfile.ZipFile("input.zip", "w") as archive:
        for path in sorted(images[0].iterdir()):
            archive.write(path, f"{images[0].name}/{path.name}")
    assert cli.main([*command[:3], "--images", "input.zip", "--output", "again.zip"]) == 0
    assert (tmp_path / "again.zip").read_bytes() == first, "the archive as it is downloaded does as well"


WRONG = {
    "no folder": (["--images", "none"], "none: neither a folder nor a ZIP archive"),
    "no such images": (["--images", "masks"], "no image ISIC_NNNNNNN.jpg"),
    "a damaged one": (["--images", "damaged"], "damaged: ISIC_0000001.jpg is a truncated or damaged JPEG"),
    "one twice": (["--images", "twice"], "ISIC_0000002 is there twice"),
    "no ZIP": (["--images", "masks", "--output", "ours.tar"], "ours.tar: name a file that ends with .zip"),
    "a ZIP of somebody's": (["--images", "masks", "--output", "input.zip"], "input.zip: exists; name another file, or"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_submitted_is_said_in_one_line_and_nothing_is_left(
    case, images, finished_training, tmp_path, capsys
):
    options, message = WRONG[case]
    photo = (images[0] / "ISIC_0000001.jpg").read_bytes()
    for name, content in {
        "input.zip": b"somebody's",
        "damaged/ISIC_0000001.jpg": photo[:-900],
        "twice/ISIC_0000002.jpg": photo,
        "twice/more/isic_0000002.JPEG": photo,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    model = str(finished_training / "artifacts/model")
    assert cli.main(["submission", "--model", model, "--output", "ours.zip", *options]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("hymunet submission: ")
    assert message in error
    assert not list(tmp_path.glob("*ours*"))
    assert json.loads((finished_training / "artifacts/model/model.json").read_text())["image_size"] == 32
