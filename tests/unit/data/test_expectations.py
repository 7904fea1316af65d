"""The data checks: good data pass, each kind of bad data fails by name with examples, and the page needs no network."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from hymunet import params
from hymunet.data.check.expectations import validate
from hymunet.data.check.verdict import require_passed
from hymunet.data.divide.split import assign, summary, to_csv

ROOT = Path(__file__).resolve().parents[3]
SECTION = params.Validate.model_validate(params.read_yaml(ROOT / "profiles/paper.yaml")["validate"])


def row(index):
    return {
        "id": f"ISIC_{index:07}",
        "sha256_image": f"image{index}",
        "sha256_mask": f"mask{index}",
        "width": 1022,
        "height": 767,
        "mask_area": 0.1 + 0.001 * (index % 100),
        "components": 1,
        "holes": 0,
        "touches_border": index % 10 == 0,
    }


def write(folder, rows, change_split=lambda text: text):
    (folder / "split").mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "manifest.parquet")
    ids = [f"ISIC_{index:07}" for index in range(120)]
    groups = {id: id for id in ids} | {ids[1]: ids[0]}
    assigned = assign(groups, (0.8, 0.1, 0.1), 0, "grouped")
    (folder / "prepare.json").write_text(json.dumps({"sha256": "of the arrays"}))
    (folder / "split/split.csv").write_text(change_split(to_csv(groups, assigned)))
    (folder / "split/split.json").write_text(json.dumps(summary(groups, assigned, "grouped", 0)))
    return folder


def check(folder):
    return validate(SECTION, folder, folder / "split", folder / "report")


def changed(index, **values):
    return [{**row(other), **(values if other == index else {})} for other in range(120)]


def test_good_data_pass_and_the_page_fetches_nothing(tmp_path):
    folder = write(tmp_path, changed(0))
    assert check(folder) == []
    record = json.loads((folder / "report/validation.json").read_text())
    assert (record["success"], record["images"], record["touching_border"]) == (True, 120, 12)
    require_passed(folder / "report/verdict.json", folder, folder / "split/split.csv")
    documents = list((folder / "report/data_docs").rglob("*.html"))
    assert len(documents) == 2
    for page in [folder / "report/report.html", *documents]:
        text = page.read_text()
        assert not re.search(r"<(link|script|img|iframe)\b[^>]*(src|href)=\"https?:", text)
        assert not re.search(r"@import|url\(\s*[\"']?https?:", text)
    (results,) = (folder / "report/data_docs/validations").rglob("*.html")
    assert "no group of near-duplicates is in more than one split" in results.read_text()
    page = (folder / "report/report.html").read_text()
    assert f'href="{results.relative_to(folder / "report")}"' in page
    assert not re.search(r"<(script|link|iframe)\b", page)


def move_one(text):
    """One image of the group of two, to another split."""
    first, second = (re.search(rf"{id},ISIC_0000000,(\w+)", text)[1] for id in ("ISIC_0000000", "ISIC_0000001"))
    assert first == second
    return text.replace(
        f"ISIC_0000001,ISIC_0000000,{first}", f"ISIC_0000001,ISIC_0000000,{'test' if first != 'test' else 'train'}"
    )


@pytest.mark.parametrize(
    ("told", "protocol", "named"),
    [
        ({}, "grouped", "no group of near-duplicates is in more than one split"),
        (
            {"groups_listed": 60, "listed_groups_torn": 0},
            "grouped",
            "no group of groups.csv or of near-duplicates is in more than one split",
        ),
        ({}, "random", None),
        ({"groups_listed": 60, "listed_groups_torn": 0}, "official", None),
    ],
)
@pytest.mark.parametrize("torn", [False, True])
def test_the_check_of_groups_is_named_for_what_says_which_belong_together(tmp_path, told, protocol, named, torn):
    folder = write(tmp_path, changed(0), move_one if torn else str)
    record = json.loads((folder / "split/split.json").read_text())
    (folder / "split/split.json").write_text(json.dumps({**record, **told, "protocol": protocol}))
    failures = [failure.check for failure in check(folder)]
    record = json.loads((folder / "report/validation.json").read_text())
    names = [one["check"] for one in record["checks"] if "splits_of_group" in one["expectation"]]
    assert names == ([named] if named else [])
    assert (named in failures) == bool(torn and named)
    assert not named or named in (folder / "report/report.html").read_text()


def test_nothing_is_left_in_the_temporary_folder(tmp_path, monkeypatch):
    """Great Expectations makes a folder for its pages there, once a validation."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert check(write(tmp_path / "data", changed(0))) == []
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("rows", "change_split", "named", "example"),
    [
        (changed(7, mask_area=0.9999), str, "covers between 0.1% and 99.5%", "ISIC_0000007"),
        (changed(8, width=4000, height=500), str, "times as long as wide", "ISIC_0000008"),
        (changed(9, components=55), str, "falls into more than 20 pieces", "ISIC_0000009"),
        (changed(10, sha256_image="image11"), str, "no image file occurs under two ids", "ISIC_0000010"),
        (changed(0)[1:], str, "every image of the split is prepared", "ISIC_0000000"),
        (
            changed(0),
            lambda text: text.replace("ISIC_0000005,ISIC_0000005,train\n", ""),
            "every prepared image",
            "ISIC_0000005",
        ),
        (changed(0), move_one, "no group of near-duplicates", "ISIC_0000001"),
        (changed(0), move_one, "holds exactly", ""),
        ([{**row(index), "mask_area": 0.6} for index in range(120)], str, "median lesion", ""),
    ],
    ids=["area", "aspect", "pieces", "same file", "not prepared", "not split", "torn group", "sizes", "median"],
)
def test_bad_data_fail_by_name(tmp_path, rows, change_split, named, example):
    folder = write(tmp_path, rows, change_split)
    failures = [str(failure) for failure in check(folder)]
    assert any(named in failure and example in failure for failure in failures), failures
    record = json.loads((folder / "report/validation.json").read_text())
    assert record["success"] is False
    assert record["failed"] == failures
    with pytest.raises(ValueError, match="data checks failed"):
        require_passed(folder / "report/verdict.json", folder, folder / "split/split.csv")


def without_lesion(*names):
    """Rows, of which those of the splits named, or every tenth, are of images without a lesion."""
    ids = [f"ISIC_{index:07}" for index in range(120)]
    assigned = assign({id: id for id in ids} | {ids[1]: ids[0]}, (0.8, 0.1, 0.1), 0, "grouped")
    chosen = [assigned[id] in names if names else index % 10 == 0 for index, id in enumerate(ids)]
    empty = {"mask_area": 0.0, "components": 0}
    return [{**row(index), **(empty if chosen[index] else {})} for index in range(120)]


@pytest.mark.parametrize(
    ("names", "failed"),
    [
        ((), []),
        (("test",), []),
        (("validation",), ["some image of validation shows a lesion"]),
        (("train",), ["some image of train shows a lesion"]),
        (("train", "validation"), ["some image of train shows", "some image of validation shows"]),
    ],
)
def test_images_without_a_lesion_are_counted_and_weights_need_some_with_one(tmp_path, names, failed):
    """Bounds of area and pieces are of the lesions that there are."""
    rows = without_lesion(*names)
    folder = write(tmp_path, rows)
    found = [str(failure) for failure in check(folder)]
    assert len(found) == len(failed), found
    assert all(said in failure for said, failure in zip(failed, found, strict=True))
    record = json.loads((folder / "report/validation.json").read_text())
    counted = sum(entry["mask_area"] == 0 for entry in rows)
    assert sum(record["without_lesion"].values()) == counted
    assert all(record["without_lesion"][name] == record["split"][name] for name in names)
    assert record["mask_area_quantiles"]["0"] > 0.09
    text = (folder / "report/report.html").read_text()
    assert f"Without a lesion are {counted} of them: {record['without_lesion']['train']} of 96 train" in text
    assert f"all {120 - counted}<" in text


OFTEN, ELSE = ("{:03}", "1e{}", "2018-01-{:02}"), ("{}", "0x{:x}", "{}.0", "NA{}", "true{}")


@pytest.mark.parametrize("name", [*OFTEN, *(pytest.param(name, marks=pytest.mark.slow) for name in ELSE)])
def test_ids_are_text_whatever_they_look_like(tmp_path, name):
    """Names that a reader of tables takes for numbers, dates or nothing at all."""
    rows = [{**row(index), "id": name.format(index)} for index in range(119)] + [{**row(119), "id": "NA"}]
    ids = [entry["id"] for entry in rows]
    folder = write(tmp_path, rows)
    groups = {id: id for id in ids}
    assigned = assign(groups, (0.8, 0.1, 0.1), 0, "grouped")
    (folder / "split/split.csv").write_text(to_csv(groups, assigned))
    (folder / "split/split.json").write_text(json.dumps(summary(groups, assigned, "grouped", 0)))
    assert check(folder) == []


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        ({}, []),
        ({"a & b": "no mask", "c": "mask holds <3> values"}, ["2 of 122 pairs", "a &amp; b", "no mask", "&lt;3&gt;"]),
    ],
    ids=["nothing", "two pairs"],
)
def test_people_read_what_was_left_out_and_why(tmp_path, left_out, said):
    folder = write(tmp_path, changed(0))
    (folder / "prepare.json").write_text(json.dumps({"sha256": "of the arrays", "dropped": left_out}))
    assert check(folder) == []
    assert json.loads((folder / "report/validation.json").read_text())["left_out"] == left_out
    page = (folder / "report/report.html").read_text()
    assert ("What was left out" in page) == bool(left_out)
    assert [part for part in said if part not in page] == []


@pytest.mark.parametrize(
    ("bounds", "said"),
    [((0.001, 0.995), "0.1% and 99.5%"), ((0.0001, 0.99), "0.01% and 99%"), ((0.00005, 1.0), "0.005% and 100%")],
)
def test_a_bound_is_shown_as_it_was_set(tmp_path, bounds, said):
    folder = write(tmp_path, changed(0))
    for key in ("mask_area", "median_mask_area"):
        section = SECTION.model_copy(update={key: list(bounds)})
        validate(section, folder, folder / "split", folder / "report")
        assert f"covers between {said} of its image" in (folder / "report/report.html").read_text()


def test_other_bounds_that_the_data_meet_leave_the_verdict_as_it_was(tmp_path):
    folder = write(tmp_path, changed(0))
    written = []
    for pieces in (20, 19):
        section = SECTION.model_copy(update={"max_components": pieces})
        assert validate(section, folder, folder / "split", folder / "report") == []
        written.append([(folder / "report" / name).read_bytes() for name in ("validation.json", "verdict.json")])
    assert written[0][0] != written[1][0]
    assert written[0][1] == written[1][1]


def test_the_program_stops_the_pipeline_and_says_why(tmp_path):
    folder = write(tmp_path, changed(7, mask_area=0.9999))
    shutil.copy(ROOT / "profiles/paper.yaml", tmp_path / "params.yaml")
    paths = ["--prepared", folder, "--split", folder / "split", "--output", tmp_path / "report"]
    command = [sys.executable, "-m", "components.validate", "--params", tmp_path / "params.yaml", *paths]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1
    assert "covers between 0.1% and 99.5%" in result.stderr
    assert "ISIC_0000007" in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "report/validation.json").exists()


DAMAGE = {
    "empty": b"",
    "no text": b"\xff\xfe\x00",
    "cut short": b"{",
    "something else": b"[1]",
    "another table": b"a,b\n1,2\n",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["manifest.parquet", "prepare.json", "split/split.csv", "split/split.json"])
def test_a_damaged_file_of_the_steps_before_is_named(tmp_path, name, damage):
    folder = write(tmp_path, changed(0))
    (folder / name).write_bytes(DAMAGE[damage])
    with pytest.raises(ValueError, match=rf"{name}: .*; run the (prepare|split) step again") as error:
        check(folder)
    assert "\n" not in str(error.value)
