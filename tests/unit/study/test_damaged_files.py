"""Kept files that are cut, forged or of another kind: `status` tells of the cell and its file, and shows the others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hymunet import cli, evidence
from hymunet.study import plan, state
from hymunet.study.data import Places
from tests.support import small_study

NET = {"title": "U-Net", "model": {"name": "unet", "size": [4, 8]}}
Change = Callable[[bytes], bytes]


def record(change: Callable[[dict[str, Any]], object]) -> Change:
    def changed(content: bytes) -> bytes:
        read = json.loads(content)
        change(read)
        return json.dumps(read).encode()

    return changed


def dice(value: Any) -> Change:
    return record(lambda read: read["test"].update(dice=value))


ANY: dict[str, Change] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "a page": lambda content: b"<html>log in</html>",
    "no text": lambda content: bytes(range(256)),
    "a list": lambda content: b"[]",
    "null": lambda content: b"null",
    "nested": lambda content: b"[" * 200_000,
    "a long number": lambda content: b"[" + b"9" * 10_000 + b"]",
}
METRICS: dict[str, Change] = {
    "no test": record(lambda read: read.pop("test")),
    "a list for the test": record(lambda read: read.update(test=[1])),
    "a number for an estimate": dice(0.9),
    "no mean": dice({"low": 0.1}),
    **{f"mean {mean}": dice({"mean": mean}) for mean in ("0.9", None, float("nan"), float("inf"), True, [0.9])},
}
TABLE: dict[str, Change] = {
    "empty": lambda content: b"",
    "no text": lambda content: bytes(range(256)),
    "NUL": lambda content: content.replace(b",0.", b",\0.", 1),
    "no id": lambda content: content.replace(b"id,", b"no,", 1),
    "no group": lambda content: content.replace(b",group,", b",no,", 1),
    "a cut line": lambda content: content[:-20],
    "a long line": lambda content: content + b"x" * 200_000,
    "more columns": lambda content: content.replace(b"IMAGE_03,", b"IMAGE_03,1,2,3,"),
}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tested cells that hold, in mini/."""
    monkeypatch.chdir(tmp_path)
    made = small_study.write_study(tmp_path / "mini", models={"unet": NET}, tables={}, seeds=[0, 1])
    for seed in (0, 1):
        small_study.publish(made, "unet", seed, small_study.drawn_rows("unet", seed))
    return made


def folder(study: Path) -> Path:
    return study / "results/drawn/unet/seed-0"


def damage(study: Path, name: str, change: Change) -> Path:
    """A file of seed 0, with the records that vouch for it rewritten."""
    path = folder(study) / name
    path.write_bytes(change(path.read_bytes()))
    if name == "per_image.csv":
        forge(folder(study) / "metrics.json", lambda read: read.update(per_image_sha256=evidence.sha256(path)))
    if name != "cell.json":
        for beside in ("metrics.json", name):
            said = {beside: evidence.sha256(folder(study) / beside)}
            forge(folder(study) / "cell.json", lambda read, said=said: read["files"].update(said))
    return path


def forge(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path.write_bytes(record(change)(path.read_bytes()))


def shown(study: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["study", "status", str(study)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "case"),
    [("cell.json", case) for case in ANY] + [("metrics.json", case) for case in (*ANY, *METRICS)],
)
def test_a_damaged_record_is_told_of_and_the_other_cells_are_shown(
    study: Path, name: str, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = damage(study, name, {**ANY, **METRICS}[case])
    told = shown(study, capsys)
    assert "1 damaged" in told, told
    assert f"drawn/unet/seed-0: damaged: {path.relative_to(study.parent)}: " in told.replace(f"{study.parent}/", "")
    assert "1 stale" in told
    assert max(map(len, told.splitlines())) < 500
    assert cli.main(["study", "tables", str(study)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("case", TABLE)
def test_a_damaged_table_of_images_is_one_line(study: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = damage(study, "per_image.csv", TABLE[case])
    assert cli.main(["study", "tables", str(study)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert len(line) < 500


@pytest.mark.parametrize("case", [*ANY, "no reason", "a folder"])
def test_a_damaged_note_of_a_failure_hides_nothing(
    study: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    planned, places = plan.load(study), Places(tmp_path / "artifacts/studies/mini", {})
    cell = planned.cells[0]
    shutil.rmtree(folder(study))
    note = state.workplace(places, cell) / state.FAILED
    note.parent.mkdir(parents=True)
    if case == "a folder":
        note.mkdir()
    else:
        wanted = {"wanted": state.expected(planned, cell, places.of(cell))}
        note.write_bytes(ANY.get(case, lambda content: content)(json.dumps(wanted).encode()))
    told = shown(study, capsys)
    assert "1 stale (*)" in told
    assert case == "a folder" or f"damaged: {note.relative_to(tmp_path)}" in told, told
