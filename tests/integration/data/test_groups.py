"""A folder's groups.csv, from the folder to the split: patients on one side, or a split of one's own, kept as it is."""

import csv
import json
import random

import pytest

from hymunet import params
from hymunet.data.check.expectations import validate
from hymunet.data.divide.divide import divide
from tests.integration.data.test_layouts import COUNT, PLAIN, chosen, ids, write

PATIENTS = {str(number): f"patient {number // 3}" for number in range(COUNT)}
PARTS = dict(zip(PATIENTS, ["train"] * 6 + ["validation"] * 3 + ["test"] * 3, strict=True))


def listing(**columns):
    rows = [["image", *columns], *([id, *(column[id] for column in columns.values())] for id in PATIENTS)]
    return "".join(",".join(row) + "\n" for row in rows).encode()


def split_of(tmp_path, content, **changes):
    """The three steps and the checks of a folder with such a groups.csv; id -> row of split.csv, and split.json."""
    folder = write(tmp_path / "mine", PLAIN)
    if content is None:
        (folder / "groups.csv").unlink(missing_ok=True)
    else:
        (folder / "groups.csv").write_bytes(content)
    section = chosen("folder", "folder", path=str(folder))
    ids(section, tmp_path)
    divided = params.Split.model_validate(section.split.model_dump() | changes)
    record = divide(divided, tmp_path / "prepared", tmp_path / "split")
    assert validate(section.validate_, tmp_path / "prepared", tmp_path / "split", tmp_path / "report") == []
    with (tmp_path / "split/split.csv").open(encoding="utf-8") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert record == json.loads((tmp_path / "split/split.json").read_text(encoding="utf-8"))
    return rows, record


@pytest.mark.parametrize("seed", range(4))
def test_a_patient_s_images_are_on_one_side(tmp_path, seed, capsys):
    rows, record = split_of(tmp_path, listing(group=PATIENTS), seed=seed)
    assert "groups.csv" not in capsys.readouterr().err  # not left out as no image
    sides = {
        patient: {rows[id]["split"] for id in PATIENTS if PATIENTS[id] == patient} for patient in PATIENTS.values()
    }
    assert all(len(side) == 1 for side in sides.values()), sides
    assert {row["split"] for row in rows.values()} == {"train", "validation", "test"}
    assert {len({rows[id]["group"] for id in PATIENTS if PATIENTS[id] == one}) for one in sides} == {1}
    assert (record["groups_listed"], record["listed_groups_torn"], record["torn_groups"]) == (4, 0, 0)


def test_without_it_they_are_torn_and_it_can_be_added_and_taken_away(tmp_path):
    alone, record = split_of(tmp_path, None)
    assert "groups_listed" not in record
    assert len({row["group"] for row in alone.values()}) == COUNT
    split_of(tmp_path, listing(group=PATIENTS))
    assert (tmp_path / "prepared/groups.csv").is_file()
    again, record = split_of(tmp_path, None)
    assert again == alone
    assert not (tmp_path / "prepared/groups.csv").exists()


def test_what_a_random_split_tears_is_counted(tmp_path):
    rows, record = split_of(tmp_path, listing(group=PATIENTS), protocol="random")
    torn = {
        patient
        for patient in PATIENTS.values()
        if len({rows[id]["split"] for id in PATIENTS if PATIENTS[id] == patient}) > 1
    }
    assert record["listed_groups_torn"] == len(torn) > 0


def test_a_split_of_ones_own_is_kept_and_what_it_tears_is_counted(tmp_path):
    mixed = dict(zip(PARTS, random.Random(0).sample(list(PARTS.values()), COUNT), strict=True))
    for parts, torn in ((PARTS, 0), (mixed, 4)):
        rows, record = split_of(tmp_path, listing(group=PATIENTS, split=parts))
        assert {id: row["split"] for id, row in rows.items()} == parts
        assert (record["protocol"], record["listed_groups_torn"]) == ("official", torn)
    rows, record = split_of(tmp_path, listing(split=PARTS))
    assert {id: row["split"] for id, row in rows.items()} == PARTS
    assert "groups_listed" not in record


def test_a_wrong_line_is_told_by_download(tmp_path):
    with pytest.raises(ValueError, match=r"mine/groups.csv: 12 images have no line: 0, 1, 10 …; every image needs one"):
        split_of(tmp_path, b"image,group\n")


@pytest.mark.parametrize("damage", ["", "id,group\n0,a\n", "id,group\n\xff"])
def test_damaged_groups_of_prepared_images_are_refused(tmp_path, damage):
    split_of(tmp_path, listing(group=PATIENTS))
    (tmp_path / "prepared/groups.csv").write_bytes(damage.encode("latin-1"))
    section = chosen("folder", "folder", path=str(tmp_path / "mine"))
    with pytest.raises(ValueError, match=r"prepared/groups.csv: not .*; run the prepare step again"):
        divide(section.split, tmp_path / "prepared", tmp_path / "split")
