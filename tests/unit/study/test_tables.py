"""Tables and pictures from kept scores: what they say is what the scores say, and documents agree with them."""

import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hymunet import metrics
from hymunet.evaluation.statistics import crossed_interval
from hymunet.study import documents, formats, plan, scores, tables
from tests.support import small_study


def dice(model: str, *seeds: int) -> np.ndarray:
    return np.array([[row["dice"] for row in small_study.drawn_rows(model, seed)] for seed in seeds])


GROUPS = ["IMAGE_00", "IMAGE_00", *(f"IMAGE_{number:02}" for number in range(2, 12))]


METERED = {  # records of U-Net's two seeds and of Attention U-Net's one -> what the column says of the two models
    "no meter": (({}, {}, {}), None),
    "read once": (({"training_joules": 7200}, {"training_joules": None}, {}), ["2", "–"]),
    "two cells on the card": (
        ({"training_joules": 7200, "cells_on_the_device": 2}, {"training_joules": 36000}, {"training_joules": 3600.0}),
        ["10", "1"],
    ),
}


@pytest.mark.parametrize("case", METERED)
def test_energy_has_a_column_once_a_meter_was_read(tmp_path: Path, case: str) -> None:
    records, expected = METERED[case]
    folder = small_study.write_study(tmp_path / "mini", models=small_study.NETS)
    for (model, seed), said in zip((("unet", 0), ("unet", 1), ("attention", 0)), records, strict=True):
        small_study.publish(folder, model, seed, small_study.drawn_rows(model, seed), **said)
    planned = plan.load(folder)
    scored = scores.load(planned, "drawn")
    assert scored is not None
    grid = tables.scores(planned, scored, "table_1")
    labels = [label for _, label in grid.columns]
    assert all(len(row) == len(labels) for row in grid.rows)
    found = [row[labels.index("Wh a training")] for row in grid.rows] if "Wh a training" in labels else None
    assert found == expected


@pytest.mark.parametrize(("apart", "cut"), [(0.9, True), (0.01, False)], ids=["beyond what can be", "within"])
def test_a_difference_is_cut_at_what_can_be(tmp_path: Path, apart: float, cut: bool) -> None:
    """Two seeds that differ widely leave t one degree of freedom; no difference of Dice is beyond a hundred points."""
    folder = small_study.write_study(tmp_path / "mini", models=small_study.NETS)
    for model, seed in (("unet", 0), ("unet", 1), ("attention", 0), ("attention", 1)):
        rows = [{**row, "dice": 0.95 - apart * seed} for row in small_study.drawn_rows(model, seed)]
        small_study.publish(folder, model, seed, rows)
    planned = plan.load(folder)
    scored = scores.load(planned, "drawn")
    assert scored is not None
    (found,), _ = tables.comparisons(planned, scored)
    assert -1 <= found.difference.low <= found.difference.mean <= found.difference.high <= 1
    assert ("(-100.00 to +100.00)" in tables.differences(planned, scored).rows[1][1]) is cut


def test_a_row_says_what_the_scores_say(study: Path) -> None:
    planned = plan.load(study)
    scored = scores.load(planned, "drawn")
    assert scored is not None
    grid = tables.scores(planned, scored, "table_1")
    labels = [label for _, label in grid.columns]
    ours = labels[: labels.index("inferred, 1 / 24") + 1]
    unet, attention = (dict(zip(ours, row, strict=False)) for row in grid.rows)
    found = crossed_interval(dice("unet", 0, 1), GROUPS)
    assert unet["seeds"] == "2"
    assert unet["Dice, %"].startswith(f"{100 * dice('unet', 0, 1).mean():.1f} (")
    assert unet["Dice, %"].endswith(f"({100 * found.low:.1f} to {100 * found.high:.1f})")
    assert (unet["parameters, M"], unet["GMACs"], unet["inferred, 1 / 24"]) == ("2.50", "1.25", "50 / 400")
    assert attention["seeds"] == "1 of 2"
    assert grid.notes[0].endswith(" Not computed yet: Ward | net & co.")
    published = [row[labels.index("HD95, as printed")] for row in grid.rows]
    assert published == ["4.74", "–"]
    assert grid.rows[0][-2:] == ["87.03", "4.74"]
    notes = " ".join(grid.notes)
    for said in (
        "12 test images at 32×32",
        "near-duplicates",
        "a drawn machine; commits cccccccccccc",
        "Drawn images.",
    ):
        assert said in notes


@pytest.mark.parametrize("published", [True, False])
def test_a_publication_is_quoted_beside_images_of_its_kind_alone(tmp_path: Path, published: bool) -> None:
    noted = {name: {**net, "note": f"Of {name}."} for name, net in small_study.NETS.items()}
    table = {
        "title": "Table 1",
        "models": list(small_study.NETS),
        "notes": ["Drawn."],
        "published_notes": ["Of the paper's."],
    }
    folder = small_study.write_study(
        tmp_path / "mini",
        models=noted,
        sets={"drawn": {"title": "Drawn lesions", "published": published}},
        tables={"table_1": table},
    )
    small_study.publish(folder, "unet", 0, small_study.drawn_rows("unet", 0))
    planned = plan.load(folder)
    scored = scores.load(planned, "drawn")
    assert scored is not None
    grid = tables.scores(planned, scored, "table_1")
    quoted = ("the publication's own", "Dice, %") in grid.columns, "published_dice" in grid.data[0]
    ends = [note for note in grid.notes if note.startswith(("Of ", "Drawn.", "The publication"))]
    assert quoted == (published, published)
    assert [note[:15] for note in ends] == ["Of unet.", "Drawn."] + published * ["The publication", "Of the paper's."]


def test_every_score_of_the_tables_is_one_that_an_evaluation_writes() -> None:
    assert set(scores.SCORES) < set(metrics.SCORES)


def test_an_interval_ends_where_the_score_does(study: Path) -> None:
    """Two seeds far apart, on images close to perfect: t would go on beyond 100 %."""
    scored = scores.load(plan.load(study), "drawn")
    assert scored is not None
    runs = scored.models["unet"]
    high = {name: np.vstack([np.full(12, 1.0), np.full(12, 0.9)]) for name in runs.values}
    wide = replace(scored, models={"unet": replace(runs, values=high)})
    row = csv.DictReader(io.StringIO(formats.comma_separated(tables.scores(plan.load(study), wide, "table_1"))))
    first = next(iter(row))
    assert (first["dice_high"], first["dice_low"]) == ("1", f"{crossed_interval(high['dice']).low:.6g}")


def test_a_difference_is_told_with_size_doubt_and_rank(study: Path) -> None:
    planned = plan.load(study)
    scored = scores.load(planned, "drawn")
    assert scored is not None
    grid = tables.differences(planned, scored)
    unet, attention = grid.rows
    assert unet[1] == "–"
    assert unet[-1].startswith("2 (")
    mean = 100 * (dice("unet", 0, 1).mean() - dice("attention", 0).mean())
    assert attention[1].startswith(f"{mean:+.2f} (")
    assert attention[1].endswith(") *"), "one seed, and the reader is told"
    assert attention[-1].startswith("1 (")
    assert all(text != "–" for text in attention[3:])
    assert "one seed of either" in " ".join(grid.notes)
    absent = "drawn/ward/seed-0, drawn/ward/seed-1, drawn/attention/seed-1"
    assert f"Not computed yet: {absent}; ranks and p are of the others." in grid.notes


def test_csv_holds_the_numbers_of_the_text(study: Path) -> None:
    files = documents.build(plan.load(study))
    rows = list(csv.DictReader(io.StringIO(files["drawn/table_1.csv"])))
    assert [row["model"] for row in rows] == ["unet", "attention"]
    assert float(rows[0]["dice"]) == pytest.approx(dice("unet", 0, 1).mean(), rel=1e-5)
    assert float(rows[0]["dice_seeds_sd"]) == pytest.approx(dice("unet", 0, 1).mean(1).std(ddof=1), rel=1e-4)
    assert rows[0]["published_dice"] == "87.03"
    assert rows[1]["published_dice"] == ""
    unet, attention = csv.DictReader(io.StringIO(files["drawn/differences.csv"]))
    assert float(unet["seeds_sd"]) == pytest.approx(dice("unet", 0, 1).mean(1).std(ddof=1), rel=1e-5), "no points"
    assert attention["seeds_sd"] == ""
    assert f"| {100 * float(unet['seeds_sd']):.2f} |" in files["drawn/differences.md"]


def test_markdown_and_latex_have_every_row_at_full_width(study: Path) -> None:
    small_study.publish(study, "ward", 0, small_study.drawn_rows("ward", 0))
    files = documents.build(plan.load(study))
    first, further = files["drawn/table_1.md"].split("<details")
    shown = ["model", "seeds", "IoU", "Dice", "HD95", "parameters"]
    for part, columns in ((first, len(shown)), (further, 10)):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert len(lines) == 5
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {columns + 1}
        assert "Ward \\| net & co" in lines[-1]
    assert "Means over 12 test images" in first
    assert further.rstrip().endswith("</details>")
    tex = files["drawn/table_1.tex"]
    body = tex[tex.index(r"\midrule") : tex.index(r"\bottomrule")].splitlines()[1:]
    wide = re.search(r"\\begin\{tabular\}\{(l)(r+)\}", tex)
    assert wide
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(wide[2])}
    assert r"Ward | net \& co" in tex
    assert tex.count("{") == tex.count("}")
    assert not set("–×%") & set(re.sub(r"\\%", "", tex).replace("{%\n", "")), "left for LaTeX to stumble over"


def test_the_same_scores_make_the_same_bytes_and_pictures_that_can_be_shown(study: Path) -> None:
    first, again = (documents.build(plan.load(study)) for _ in range(2))
    assert first == again
    assert set(first) == {
        *(f"drawn/{name}.{kind}" for name in ("table_1", "differences") for kind in ("md", "tex", "csv")),
        *("drawn/forest.svg", "drawn/ranks.svg"),
    }
    for name in ("forest", "ranks"):
        ElementTree.fromstring(first[f"drawn/{name}.svg"].encode())


OF_A_SET = {  # the set's models, of those that have scores -> the table's rows; None: no table, the reference is alone
    "all": (None, ["U-Net", "Attention U-Net"]),
    "some": (["attention", "unet"], ["U-Net", "Attention U-Net"]),
    "not the reference": (["attention"], ["Attention U-Net"]),
    "the reference alone": (["unet"], None),
}


@pytest.mark.parametrize("case", OF_A_SET)
def test_a_table_has_the_models_of_its_set(tmp_path: Path, case: str) -> None:
    models, expected = OF_A_SET[case]
    sets = {"drawn": {"title": "Drawn", **({"models": models} if models else {})}}
    folder = small_study.write_study(tmp_path / "mini", models=small_study.NETS, sets=sets)
    for model in models or ["unet", "attention"]:
        small_study.publish(folder, model, 0, small_study.drawn_rows(model, 0))
    planned = plan.load(folder)
    files = documents.build(planned)
    assert ("drawn/table_1.md" in files) is (expected is not None)
    if expected:
        scored = scores.load(planned, "drawn")
        assert scored is not None
        assert [row[0] for row in tables.scores(planned, scored, "table_1").rows] == expected


def test_folds_make_one_run_and_count_when_all_are_there(tmp_path: Path) -> None:
    sets = {"drawn": {"title": "Drawn", "folds": 3}}
    folder = small_study.write_study(tmp_path / "mini", models=small_study.NETS, sets=sets)
    rows = {seed: small_study.drawn_rows("unet", seed) for seed in (0, 1)}
    for seed, fold in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        small_study.publish(folder, "unet", seed, rows[seed][fold::3], fold)
    scored = scores.load(plan.load(folder), "drawn")
    assert scored is not None
    assert list(scored.models) == ["unet"]
    assert list(scored.models["unet"].seeds) == [0]
    np.testing.assert_allclose(scored.models["unet"].values["dice"], dice("unet", 0))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"made_from": {"data_sha256": "d" * 64, "split_sha256": "e" * 64}},
            "split_sha256 eeeeeeeeeeee, but 000000000000",
        ),
        (
            {"made_from": {"data_sha256": "e" * 64, "split_sha256": "0" * 64}},
            "data_sha256 eeeeeeeeeeee, but dddddddddddd",
        ),
        (
            {"settings": {"model": {}, "train": {"epochs": 1, "no_more": 1}, "evaluate": {}, "image_size": 64}},
            "not the study's settings: image_size: 32 in the study, 64 in the result; train.epochs: 12 in the study, 1",
        ),
    ],
)
def test_scores_that_do_not_belong_together_make_no_table(study: Path, said: dict[str, object], message: str) -> None:
    small_study.publish(study, "attention", 1, small_study.drawn_rows("attention", 1), **said)
    with pytest.raises(ValueError, match=message) as raised:
        scores.load(plan.load(study), "drawn")
    assert "attention/seed-1" in str(raised.value)


def test_scores_of_other_images_make_no_table(study: Path) -> None:
    small_study.publish(study, "attention", 1, small_study.drawn_rows("attention", 1, images=11))
    with pytest.raises(ValueError, match="drawn/attention/seed-1 was tested on other images"):
        scores.load(plan.load(study), "drawn")


@pytest.mark.parametrize("file", ["per_image.csv", "metrics.json", "history.json"])
def test_a_result_that_was_touched_is_believed_nowhere(study: Path, file: str) -> None:
    touched = study / "results/drawn/unet/seed-0" / file
    touched.write_text(touched.read_text() + " ")
    with pytest.raises(
        ValueError, match=rf"cell.json: made with a {file} .*, beside it lies .*; compute the cell again"
    ):
        documents.build(plan.load(study))


def test_without_results_there_is_nothing_to_write(tmp_path: Path) -> None:
    planned = plan.load(small_study.write_study(tmp_path / "mini", models=small_study.NETS))
    assert documents.build(planned) == {}
    assert documents.write(planned, []) == []


def test_special_characters_survive_latex() -> None:
    assert formats.escaped(r"50 % of a_b & {c} \ ~ ^ < # $") == (
        r"50 \% of a\_b \& \{c\} \textbackslash{} \textasciitilde{} \textasciicircum{} $<$ \# \$"
    )


@pytest.mark.parametrize(("said", "warned"), [({}, False), ({"cells_on_the_device": 2}, True)])
def test_rates_of_cells_that_shared_a_card_are_not_to_be_compared(
    study: Path, said: dict[str, int], warned: bool
) -> None:
    planned = plan.load(study)
    small_study.publish(study, "unet", 0, small_study.drawn_rows("unet", 0), **said)
    scored = scores.load(planned, "drawn")
    assert scored is not None
    notes = " ".join(tables.scores(planned, scored, "table_1").notes)
    assert ("Up to 2 cells shared a card" in notes) is warned
