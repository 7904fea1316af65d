"""Names that spreadsheets take for formulas: text in every table for people, and what they are when it is read."""

import csv
import json
import zipfile
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hymunet import cli
from hymunet.evaluation import record, slices
from hymunet.evaluation.compare import compare
from hymunet.formats.spreadsheet import quoted, unquoted
from hymunet.registry.evidence import scores_of
from tests.support.two_evaluations import drawn, write

NAMES = {
    "=1+1": "'=1+1",
    "=cmd|' /C calc'!A0": "'=cmd|' /C calc'!A0",
    "@SUM(1)": "'@SUM(1)",
    "-1+1": "'-1+1",
    "+a": "'+a",
    "'=1+1": "''=1+1",
    "-12": "-12",
    "+1.5e3": "+1.5e3",
    "'quoted'": "'quoted'",
    "a=1": "a=1",
    "": "",
}


@pytest.mark.parametrize(("name", "cell"), NAMES.items())
def test_what_would_be_computed_is_text(name, cell):
    assert quoted(name) == cell
    assert unquoted(cell) == name


@given(st.text(alphabet="'=+-@1a\t", max_size=6))
def test_a_cell_is_read_as_what_was_written_and_is_no_formula(name):
    assert unquoted(quoted(name)) == name
    if quoted(name).startswith(("=", "+", "-", "@", "\t")):
        float(quoted(name))


def png(number):
    content = BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)).save(content, "png")
    return content.getvalue()


def test_a_prediction_s_table_has_no_formula_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = [name for name in NAMES if name]
    for number, name in enumerate(names):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(number))
    with zipfile.ZipFile("sent.zip", "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(f"{name}.png", png(number))
    ask = ["predict", "sent.zip", "--output", "out", "--model", "bundled", "--save", "mask,coco"]
    assert cli.main(ask) == 0
    with open("out/predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["name"] for row in rows) == sorted(NAMES[name] for name in names)
    assert all((tmp_path / f"out/{name}_mask.png").is_file() for name in names)
    assert len(json.loads((tmp_path / "out/predictions.coco.json").read_text())["images"]) == len(names)
    assert cli.main(ask) == 0
    assert f"{len(names)} were there already" in capsys.readouterr().out
    plain = [f"{name}.png" for name in names if name[0] != "-" and "/" not in name]
    assert cli.main(["predict", *plain, "--output", "own"]) == 0
    table = tmp_path / "own/predictions.csv"
    (tmp_path / "list.csv").write_bytes(table.read_bytes())
    assert "\n'=1+1,'=1+1.png," in table.read_text()
    assert cli.main(["predict", "list.csv", "--output", "again"]) == 0, "a table names the images that it is of"


def test_an_evaluation_s_table_has_no_formula_and_is_read_by_its_ids(tmp_path):
    rows, _ = drawn(len(NAMES) - 1, 0.2)
    for row, name in zip(rows, filter(None, NAMES), strict=True):
        row["id"] = name
    groups = ["=A1", "@b", *(f"g{index}" for index in range(len(rows) - 2))]
    for folder in ("one", "two"):
        write(tmp_path / folder, rows, groups=groups)
    text = (tmp_path / "one" / record.TABLE).read_text()
    assert [row["id"] for row in csv.DictReader(text.splitlines())] == [NAMES[row["id"]] for row in rows]
    read = record.read(tmp_path / "one")[1]
    assert [(row["id"], row["group"]) for row in read] == [
        (row["id"], group) for row, group in zip(rows, groups, strict=True)
    ]
    assert scores_of(text.encode()).ids == tuple(row["id"] for row in rows)
    assert compare(tmp_path / "one", tmp_path / "two").result["images"] == len(rows)
    own = tmp_path / "own.csv"
    own.write_text("id,camera\n" + "".join(f'"{cell}",{len(cell)}\n' for cell in NAMES.values() if cell))
    assert slices.read_columns(own, [row["id"] for row in rows])["camera"] == [str(len(NAMES[r["id"]])) for r in rows]
