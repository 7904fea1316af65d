"""What cannot be used in a folder of one's own is named as its owner knows it: folder, file and what was expected."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.download.__main__ import main as download
from components.prepare.__main__ import main as prepare
from hymunet.data.acquire.folder import role
from hymunet.data.acquire.isic2018 import SOURCE as ISIC
from hymunet.data.acquire.pairs import pair
from hymunet.data.acquire.synthetic import draw
from hymunet.shortlist import shortlist

ROOT = Path(__file__).resolve().parents[3]

COUNT = 14
EMPTY = np.zeros((48, 48), np.uint8)


def owned(place, ending="", images="images", masks="masks"):
    """A folder with COUNT pairs."""
    for index in range(COUNT):
        image, mask = draw(index, 48, seed=1)
        for kind, name, pixels in ((images, "", image), (masks, ending, mask * (255 if mask.max() == 1 else 1))):
            (place / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / kind / f"case_{index:02}{name}.png")
    return place


def steps(tmp_path, place, *changes, named=None):
    """Downloads and prepares. named: the folder that params.yaml has when it is prepared, if another."""
    own = ["--params", str(ROOT / "profiles/paper.yaml"), "-S", "data.source=folder", "-S", "prepare.image_size=32"]
    download([*own, "-S", f"data.folder.path='{place}'", "--output", str(tmp_path / "raw")])
    more = [part for change in changes for part in ("-S", change)]
    folders = ["--raw", str(tmp_path / "raw"), "--output", str(tmp_path / "prepared")]
    prepare([*own, "-S", f"data.folder.path='{named or place}'", *folders, *more])


def no_mask(place):
    (place / "masks/case_03.png").unlink()


def no_mask_where_masks_have_an_ending(place):
    (place / "masks/case_03_seg.png").unlink()


def no_mask_in_a_publisher_s_folders(place):
    (place / "Ground Truth/case_03.png").unlink()


def no_mask_among_others_below(place):
    for kind in ("images", "masks"):
        for side, files in (("left", range(7)), ("right", range(7, COUNT))):
            (place / kind / side).mkdir()
            for index in files:
                (place / kind / f"case_{index:02}.png").rename(place / kind / side / f"case_{index:02}.png")
    (place / "masks/right/case_09.png").unlink()


def no_image(place):
    (place / "images/case_03.png").unlink()


def two_masks(place):
    (place / "masks/case_03_mask.png").write_bytes((place / "masks/case_03.png").read_bytes())


def two_images(place):
    (place / "images/case_03.jpg").write_bytes((place / "images/case_03.png").read_bytes())


def a_camera_s_own_file(place):
    (place / "images/case_03.png").rename(place / "images/case_03.cr2")


def damage(place):
    (place / "images/case_03.png").write_bytes((place / "images/case_03.png").read_bytes()[:400])


def a_void_ring(place):
    ring = np.asarray(Image.open(place / "masks/case_03.png")).copy()
    ring[:20] = 128
    Image.fromarray(ring).save(place / "masks/case_03.png")


def nothing_drawn(place):
    Image.fromarray(EMPTY).save(place / "masks/case_03.png")


def another_size(place):
    Image.fromarray(np.asarray(Image.open(place / "masks/case_03.png"))[:40]).save(place / "masks/case_03.png")


KINDS = {
    no_mask: "images/case_03.png: no mask; expected masks/case_03.png or masks/case_03_mask.png",
    no_mask_where_masks_have_an_ending: (
        "images/case_03.png: no mask; expected masks/case_03_seg.png or masks/case_03.png"
    ),
    no_mask_in_a_publisher_s_folders: (
        "Original/case_03.png: no mask; expected Ground Truth/case_03.png or Ground Truth/case_03_mask.png"
    ),
    no_mask_among_others_below: (
        "images/right/case_09.png: no mask; expected masks/right/case_09.png or masks/right/case_09_mask.png"
    ),
    no_image: "masks/case_03.png: no image; expected images/case_03.png",
    two_masks: "images/case_03.png: 2 masks of this name: masks/case_03.png, masks/case_03_mask.png",
    two_images: "images/case_03.jpg: 2 images of this name: images/case_03.jpg, images/case_03.png",
    a_camera_s_own_file: "images/case_03.cr2: image images/case_03.cr2 is of a kind that is not read",
    damage: "images/case_03.png: image is a truncated or damaged PNG",
    a_void_ring: "masks/case_03.png: mask holds the values 0 ",
    nothing_drawn: "masks/case_03.png: mask is empty",
    another_size: "images/case_03.png: image is 48×48, mask 48×40",
}
LAYOUTS = {
    no_mask_where_masks_have_an_ending: {"ending": "_seg"},
    no_mask_in_a_publisher_s_folders: {"images": "Original", "masks": "Ground Truth"},
}


@pytest.mark.parametrize("spoil", KINDS, ids=lambda spoil: spoil.__name__)
def test_a_bad_pair_is_named_by_its_folder_and_its_file(spoil, tmp_path, capsys):
    place = owned(tmp_path / "My images (2026)", **LAYOUTS.get(spoil, {}))
    spoil(place)
    with pytest.raises(ValueError, match="pairs cannot be used") as refusal:
        steps(tmp_path, place)
    head, line = re.fullmatch(r"(.*drop(?:; .*max_without_lesion)?): (.*)", str(refusal.value)).groups()
    assert head.startswith(f"{place}: 1 of {COUNT} pairs cannot be used; mend them, or set prepare.on_bad_pair to drop")
    assert ("prepare.max_without_lesion" in head) == (spoil is nothing_drawn)
    assert line.startswith(KINDS[spoil])
    capsys.readouterr()
    steps(tmp_path, place, "prepare.on_bad_pair=drop", "prepare.max_dropped=0.1")
    said = capsys.readouterr().err
    assert f"prepare: {place}: 1 of {COUNT} pairs cannot be used and are left out: {line}\n" in said
    (reason,) = json.loads((tmp_path / "prepared/prepare.json").read_text())["dropped"].values()
    assert line.endswith(reason)
    assert not re.search(r"raw|folder/", line + said.replace(str(tmp_path), ""))


def unpaired(place, count):
    for index in range(count):
        (place / f"masks/case_{index:02}.png").unlink()


@pytest.mark.parametrize(
    ("count", "changes", "head", "all_in"),
    [
        (10, (), "mend them, or set prepare.on_bad_pair to drop", None),
        (12, (), "mend them, or set prepare.on_bad_pair to drop", "bad_pairs.csv"),
        (
            12,
            ("prepare.on_bad_pair=drop",),
            "prepare.max_dropped allows 5.0%; mend them, or allow more",
            "bad_pairs.csv",
        ),
    ],
)
def test_many_are_counted_and_the_first_are_named_a_line_each(tmp_path, count, changes, head, all_in):
    place = owned(tmp_path / "mine")
    unpaired(place, count)
    with pytest.raises(ValueError, match="pairs cannot be used") as refusal:
        steps(tmp_path, place, *changes)
    first, *lines = str(refusal.value).split("\n")
    assert first == f"{place}: {count} of {COUNT} pairs cannot be used; {head}:"
    assert max(map(len, lines)) < 100 + len(str(tmp_path))
    output = tmp_path / "prepared"
    if all_in is None:
        assert len(lines) == count
        assert list(output.iterdir()) == []
        return
    assert lines[10:] == [f"  and {count - 10} more, all in {output / all_in}"]
    rows = list(csv.reader((output / all_in).open()))
    assert len(rows) == count + 1
    assert rows[1] == [
        "case_00",
        "images/case_00.png",
        "no mask; expected masks/case_00.png or masks/case_00_mask.png",
    ]
    steps(tmp_path, place, "prepare.on_bad_pair=drop", "prepare.max_dropped=0.9")
    assert not (output / all_in).exists(), "of what is no longer refused"


def test_those_left_out_are_all_in_the_record(tmp_path, capsys):
    place = owned(tmp_path / "mine")
    unpaired(place, 12)
    steps(tmp_path, place, "prepare.on_bad_pair=drop", "prepare.max_dropped=0.9")
    record = tmp_path / "prepared/prepare.json"
    assert f"\n  and 2 more, all in {record}\n" in capsys.readouterr().err
    assert len(json.loads(record.read_text())["dropped"]) == 12


@pytest.mark.parametrize("most", ["0.5", "0.05"])
def test_images_without_a_lesion_are_named_by_folder_and_mask(most, tmp_path, capsys):
    place = owned(tmp_path / "mine")
    for index in (3, 4):
        Image.fromarray(EMPTY).save(place / f"masks/case_{index:02}.png")
    refused = most == "0.05"
    if refused:
        with pytest.raises(ValueError, match="allow more:") as refusal:
            steps(tmp_path, place, f"prepare.max_without_lesion={most}")
    else:
        steps(tmp_path, place, f"prepare.max_without_lesion={most}")
    said = str(refusal.value) if refused else capsys.readouterr().err
    assert f"{place}: 2 of {COUNT} images are without a lesion, their masks are empty" in said
    assert "\n  masks/case_03.png\n  masks/case_04.png" in said


@pytest.mark.parametrize("named", ["another", "absent"])
def test_a_folder_that_the_images_did_not_come_from_is_not_named(named, tmp_path):
    place = owned(tmp_path / "mine")
    no_mask(place)
    (tmp_path / "another/images").mkdir(parents=True)
    with pytest.raises(ValueError, match="cannot be used") as refusal:
        steps(tmp_path, place, named=tmp_path / named)
    assert str(refusal.value).startswith(f"{tmp_path / 'raw'}: 1 of")
    assert ": images/case_03.png: no mask; " in str(refusal.value)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        # of a publisher's archive
        (["ISIC_0000001.jpg", "ISIC_0000001_segmentation.png", "ISIC_0000002.jpg"], "ISIC_0000002_segmentation.png"),
        # no name that would not be paired is proposed
        (["x/images/1.png", "x/images/2.png"], None),
        (["x/IMD1/IMD1_lesion/IMD1_lesion.bmp", "x/IMD1/IMD1_images/IMD1.bmp", "x/IMD2/IMD2_images/IMD2.bmp"], "IMD2"),
    ],
)
def test_only_names_that_would_be_paired_are_expected(names, found):
    published = names[0].startswith("ISIC")
    archive, mask_archive = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"
    if published:
        names = [f"{mask_archive if '_seg' in name else archive}/{name}" for name in names]
        halves = [one for one in ISIC.pairs({"a.zip": names}) if one.problem]
    else:
        halves = [one for one in pair({"a.zip": names}, role) if one.problem]
    (last,) = halves[-1:]
    if found is None:
        assert last.problem == "no mask"
        return
    expected = last.problem.removeprefix("no mask; expected ").split(" or ")
    assert found in expected[0]
    for name in expected:
        again = ISIC.pairs({"a.zip": [*names, name]}) if published else pair({"a.zip": [*names, name]}, role)
        assert [one.problem for one in again if one.id == last.id] == [""]


@pytest.mark.parametrize(("count", "last"), [(2, "1"), (10, "9"), (11, "and 1 more"), (1400, "and 1,390 more")])
def test_a_list_has_ten_lines_and_a_count(count, last):
    text = shortlist([str(index) for index in range(count)])
    assert text.startswith("\n  0")
    assert text.split("\n")[-1] == f"  {last}"
    assert shortlist(["alone"]) == " alone"
    assert shortlist([""] * 11, "x.csv").endswith("and 1 more, all in x.csv")


def test_a_name_that_a_spreadsheet_would_compute_is_text_in_the_list(tmp_path):
    place = owned(tmp_path / "mine")
    unpaired(place, 12)
    (place / "images/case_00.png").rename(place / "images/=1+1.png")
    with pytest.raises(ValueError, match="pairs cannot be used"):
        steps(tmp_path, place)
    ids = [row[0] for row in csv.reader((tmp_path / "prepared/bad_pairs.csv").open())]
    assert "'=1+1" in ids
