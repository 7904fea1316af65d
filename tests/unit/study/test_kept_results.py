"""What is kept of a cell is read whole or refused by name, and nothing that is worth less takes its place."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hymunet import cli
from hymunet.study import plan, results, scores, state
from hymunet.study.data import Places
from tests.support import small_study

NET = {"unet": {"title": "U-Net", "model": {"name": "unet", "size": [4, 8]}}}
CELL = "results/drawn/unet/seed-0"
Record = dict[str, Any]


def kept(folder: Path, like: str = "unet", code: str | None = None) -> Path:
    """A study with one tested cell, with the scores of `like`; it holds, but for one of other code."""
    study = small_study.write_study(folder, models=NET, tables={}, seeds=[0])
    planned = plan.load(study)
    wanted = state.expected(planned, planned.cells[0], places(study).of(planned.cells[0]))
    wanted["made_from"] = {"data_sha256": "d" * 64, "split_sha256": "0" * 64, **wanted["made_from"]}
    small_study.publish(study, "unet", 0, small_study.drawn_rows(like, 0), **wanted)
    return rewritten(study, lambda record: record["made_from"].update(training_code=code)) if code else study


def places(study: Path) -> Places:
    return Places(study.parent / "work", {})


def rewritten(study: Path, change: Callable[[Record], object]) -> Path:
    file = study / CELL / "cell.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))
    return study


def taken(study: Path, brought: Path) -> list[str]:
    planned = plan.load(study)
    return state.take_in(planned, planned.cells, places(study), brought)


DAMAGED: dict[str, tuple[Callable[[Record], object], str]] = {
    "a cell that is a word": (lambda r: r.update(cell="x"), "cell = 'x': input should be a valid dictionary"),
    "a cell without a name": (lambda r: r["cell"].pop("name"), "cell.name: is missing"),
    "settings that say nothing": (lambda r: r.update(settings={}), "settings.model: is missing; settings.train"),
    "no split": (lambda r: r["made_from"].pop("split_sha256"), "made_from.split_sha256: is missing"),
    "files in a list": (lambda r: r.update(files=[]), "files = []: input should be a valid dictionary"),
    "no file": (lambda r: r.update(files={}), "files names nothing; expected: history.json, and of a tested cell"),
    "half a test": (lambda r: r["files"].pop("per_image.csv"), "files names metrics.json, history.json; expected"),
    "a file of others": (lambda r: r["files"].update({"../x": "0"}), "input should be 'history.json', 'metrics.json'"),
    "a hash that is a number": (lambda r: r["files"].update({"history.json": 3}), "files.history.json = 3: input"),
    "no rates": (lambda r: r["images_per_second"].pop("inferred"), "images_per_second.inferred: is missing"),
    "no size": (lambda r: r.pop("parameters"), "parameters: is missing"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_record_of_another_kind_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    change, message = DAMAGED[damage]
    study = rewritten(kept(tmp_path / "mini"), change)
    with pytest.raises(
        ValueError, match="mini/results/drawn/unet/seed-0/cell.json: .*compute the cell again"
    ) as raised:
        results.read(study / CELL)
    assert message in str(raised.value)
    planned = plan.load(study)
    assert state.state(planned, planned.cells[0], places(study)).kind == "damaged"
    with pytest.raises(ValueError, match="cell.json"):
        taken(small_study.write_study(tmp_path / "other", models=NET, tables={}, seeds=[0]), study / "results")


@pytest.mark.parametrize("value", ["", "nan", "inf", "none"])
@pytest.mark.parametrize("name", ["dice", "hd95"])
def test_a_score_that_is_no_number_makes_no_table(tmp_path: Path, name: str, value: str) -> None:
    study, rows = kept(tmp_path / "mini"), small_study.drawn_rows("unet", 0)
    rows[3][name] = value
    small_study.publish(study, "unet", 0, rows)
    with pytest.raises(ValueError, match=f"seed-0/per_image.csv: IMAGE_03: {name} = '{value}', expected a number"):
        scores.load(plan.load(study), "drawn")


def without(rows: list[Record], name: str) -> list[Record]:
    return [{key: value for key, value in row.items() if key != name} for row in rows]


UNFIT: dict[str, tuple[Callable[[list[Record]], list[Record]], str]] = {
    "an image twice": (lambda rows: [*rows, rows[1]], "per_image.csv: IMAGE_01: more than one row of an image"),
    "no such column": (lambda rows: without(rows, "hd95"), "per_image.csv: holds no hd95"),
    "one lesion": (lambda rows: rows[:1], "mini: drawn has one group of images to test on"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_rows_that_make_no_mean_make_no_table(tmp_path: Path, case: str) -> None:
    change, message = UNFIT[case]
    study = kept(tmp_path / "mini")
    small_study.publish(study, "unet", 0, change(small_study.drawn_rows("unet", 0)))
    with pytest.raises(ValueError, match=message):
        scores.load(plan.load(study), "drawn")


def closed(record: Record) -> None:
    record["files"] = {"history.json": record["files"]["history.json"]}


HERE = {"holds": None, "stale": "old"}  # code
BROUGHT: dict[str, tuple[str, dict[str, str], bool, str]] = {  # what is here, what is brought, closed, what is said
    "the same": ("holds", {}, False, "there already"),
    "the same, stale": ("holds", {"code": "old"}, False, "there already (stale: other training code)"),
    "the same scores by the present code": ("stale", {}, False, "taken in"),
    "other scores by the present code": ("stale", {"like": "ward"}, False, "taken in"),
    "other scores where some hold": ("holds", {"like": "ward"}, False, "refused: done here, with other scores"),
    "other scores of old code": ("stale", {"like": "ward", "code": "older"}, False, "refused: stale here"),
    "no scores in place of stale ones": (
        "stale",
        {},
        True,
        "refused: stale here, with other scores, and this one is n",
    ),
    "no scores in place of some": ("holds", {}, True, "refused: done here"),
}


@pytest.mark.parametrize("case", BROUGHT)
def test_what_is_taken_in_is_worth_as_much_as_what_it_replaces(tmp_path: Path, case: str) -> None:
    here, brought, without_test, expected = BROUGHT[case]
    study, other = kept(tmp_path / "mini", code=HERE[here]), kept(tmp_path / "other", **brought)
    if without_test:
        rewritten(other, closed)
    before = {file.name: file.read_bytes() for file in (study / CELL).iterdir()}
    if expected.startswith("refused"):
        with pytest.raises(ValueError, match=r"other/results/.*; remove .*mini/results/drawn/unet/seed-0") as raised:
            taken(study, other / "results")
        assert expected.removeprefix("refused: ") in str(raised.value)
    else:
        assert taken(study, other / "results") == [f"drawn/unet/seed-0: {expected}"]
    after = {file.name: file.read_bytes() for file in (study / CELL).iterdir()}
    assert after == (
        {file.name: file.read_bytes() for file in (other / CELL).iterdir()} if expected == "taken in" else before
    )


def test_two_results_of_one_cell_are_told_apart_by_the_user(tmp_path: Path) -> None:
    study = small_study.write_study(tmp_path / "mini", models=NET, tables={}, seeds=[0])
    for name, like in (("one", "unet"), ("two", "ward")):
        shutil.copytree(kept(tmp_path / name, like=like) / "results", tmp_path / "brought" / name)
    with pytest.raises(ValueError, match="brought/two/.*lies in .*brought/one/.*, too, with other scores; import one"):
        taken(study, tmp_path / "brought")
    assert not (study / "results").exists()
    shutil.rmtree(tmp_path / "brought/two")
    shutil.copytree(tmp_path / "brought/one", tmp_path / "brought/two")
    assert set(taken(study, tmp_path / "brought")) == {"drawn/unet/seed-0: taken in"}


def test_a_record_that_is_a_folder_is_named_and_nothing_is_taken_in(tmp_path: Path) -> None:
    study = small_study.write_study(tmp_path / "mini", models=NET, tables={}, seeds=[0])
    brought = kept(tmp_path / "other")
    (brought / "results/drawn/unet/seed-9/cell.json").mkdir(parents=True)
    with pytest.raises(ValueError, match="seed-9/cell.json: a folder, or a link that leads nowhere; remove it"):
        taken(study, brought)
    assert not (study / CELL).exists()


@pytest.mark.parametrize("verb", [["status"], ["import"], ["run"]])
def test_images_given_for_a_set_that_is_not_there_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    study = kept(tmp_path / "mini")
    folder = [str(study)] if verb == ["import"] else []
    assert cli.main(["study", *verb, str(study), *folder, "--data", "other=x"]) == 1
    assert "--data other=…: no such set; there are: drawn" in capsys.readouterr().err
