"""Two evaluations case by case: figures worked out by hand, intervals over groups, the page in a real browser."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from hymunet import cli
from hymunet.evaluation.compare import compare
from hymunet.evaluation.report import comparison
from hymunet.evaluation.report.names import SCORES as SHOWN
from hymunet.evaluation.report.names import digits
from hymunet.evaluation.statistics import paired_difference
from hymunet.metrics import SCORES
from tests.support.browser import dom
from tests.support.two_evaluations import drawn, write
from tests.unit.evaluation.test_report import BEFORE, EVIL, PAPER, laid_out

COUNT = 60


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model that is often wrong and one that is less so, of 60 images in groups of two."""
    place = tmp_path_factory.mktemp("compared")
    groups = [f"g{index // 2}" for index in range(COUNT)]
    return [
        write(place / name / "evaluation", *drawn(COUNT, error, seed=seed), groups)
        for name, error, seed in (("plain unet", 0.5, 1), ("hymunet", 0.3, 2))
    ]


@pytest.fixture(scope="module")
def written(folders, tmp_path_factory):
    output = tmp_path_factory.mktemp("written")
    return comparison.write(*folders, output), output


def by_hand(tmp_path, dice, iou, **more):
    """Folders of evaluations with these scores of one image each, everything else alike."""
    rows, _ = drawn(len(dice[0]), 0.2)
    for side, name in enumerate("ab"):
        own = [{**row, "dice": d, "iou": i} for row, d, i in zip(rows, dice[side], iou[side], strict=True)]
        write(tmp_path / name, own, **more)
    return tmp_path / "a", tmp_path / "b"


def test_differences_flips_and_shares_are_those_worked_out_by_hand(tmp_path):
    dice = [0.5, 0.6, 0.7, 0.8], [0.7, 0.6, 0.6, 0.9]
    iou = [0.60, 0.64, 0.66, 0.70], [0.65, 0.64, 0.60, 0.90]
    found = compare(*by_hand(tmp_path, dice, iou)).result
    one = found["scores"]["dice"]
    assert one["first"] == pytest.approx(0.65)
    assert one["second"] == pytest.approx(0.70)
    assert one["difference"]["mean"] == pytest.approx(0.05)
    assert one["second_better"] == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert one["effect"] == pytest.approx(0.05 / np.std([0.2, 0, -0.1, 0.1], ddof=1))
    flips = found["flips"]
    assert [one["id"] for one in flips["failed_in_first"]] == ["CASE_0000"], "0.60 fails, 0.65 is good"
    assert [one["id"] for one in flips["failed_in_second"]] == ["CASE_0002"]
    assert (flips["failed_in_first"][0]["first_iou"], flips["failed_in_first"][0]["second_iou"]) == (0.60, 0.65)
    assert found["scores"]["hd95"]["difference"] == {"mean": 0, "low": 0, "high": 0}
    assert found["scores"]["hd95"]["second_better"] == 0.5
    assert found["scores"]["hd95"]["effect"] == 0


@pytest.mark.parametrize("size", ["500,900", "800,600", "1200,900"])
def test_the_page_goes_up_and_down_alone(written, tmp_path, size):
    assert laid_out((written[1] / "comparison.html").read_text(), tmp_path, size)["sideways"] == 0


def test_on_paper_nothing_is_cut_and_the_ground_is_white(written, tmp_path):
    found = laid_out((written[1] / "comparison.html").read_text(), tmp_path, PAPER, printed=True)
    assert found["cut"] == []
    assert found["ground"] == "rgb(255, 255, 255)"


def test_where_low_is_good_the_lower_one_is_better(folders):
    found = compare(*folders)
    for name in SCORES:
        a, b = (np.array([row[name] for row in side.rows]) for side in found.sides)
        gain = {"area_error": abs(a) - abs(b), "hd95": a - b, "assd": a - b, "hd95_fraction": a - b}.get(name, b - a)
        if name in ("missed_lesions", "wrong_objects"):
            gain = a - b
        share = found.result["scores"][name]["second_better"]
        assert share == pytest.approx(((gain > 0) + 0.5 * (gain == 0)).mean()), name


def test_intervals_are_over_groups_and_paired(folders):
    found = compare(*folders)
    a, b = (np.array([row["dice"] for row in side.rows]) for side in found.sides)
    groups = [row["group"] for row in found.sides[0].rows]
    assert found.result["scores"]["dice"]["difference"] == paired_difference(b, a, 2000, 0, groups)
    assert (found.result["images"], found.result["groups"]) == (COUNT, COUNT // 2)
    assert found.result["verdict"].startswith("hymunet leads plain unet by ")
    assert "over 60 images in 30 groups of near-duplicates" in found.result["verdict"]
    swapped = compare(*folders[::-1]).result
    for end, other in (("mean", "mean"), ("low", "high"), ("high", "low")):
        there = swapped["scores"]["dice"]["difference"][other]
        assert found.result["scores"]["dice"]["difference"][end] == pytest.approx(-there)
    assert swapped["verdict"] == found.result["verdict"], "the same, whichever is named first"


def test_a_difference_that_may_be_chance_is_said_to_be_unsettled(tmp_path):
    dice = [0.5, 0.9, 0.7, 0.8], [0.7, 0.6, 0.8, 0.7]
    verdict = compare(*by_hand(tmp_path, dice, dice)).result["verdict"]
    assert verdict.startswith("The difference is not settled: -2.50 points of Dice")


@pytest.mark.parametrize(
    ("dice", "groups", "said"),
    [
        (
            ([0.5], [0.9]),
            None,
            "+40.00 points of Dice, second less first, on one image, which tells nothing of others.",
        ),
        (([0.5, 0.6], [0.7, 0.9]), None, "+25.00 points of Dice, 95 % interval -38.53 to +88.53"),
        (([0.5, 0.6, 0.7], [0.52, 0.65, 0.7]), None, "+2.33 points of Dice, 95 % interval -3.92 to +8.58"),
        (([0.5, 0.5, 0.6, 0.6], [0.7, 0.7, 0.9, 0.9]), list("aabb"), "+25.00 points of Dice, 95 % interval -38.53 to"),
    ],
)
def test_a_few_images_settle_nothing_by_being_few(tmp_path, dice, groups, said):
    """By draws alone the interval left 0 out wherever all images went one way, and had no width where there is one."""
    for name, scores in zip(("first", "second"), dice, strict=True):
        rows, _ = drawn(len(scores), 0.2)
        write(tmp_path / name, [{**row, "dice": one} for row, one in zip(rows, scores, strict=True)], groups=groups)
    assert (
        compare(tmp_path / "first", tmp_path / "second")
        .result["verdict"]
        .startswith(f"The difference is not settled: {said}")
    )


def test_a_slice_differs_only_where_all_intervals_together_say_so(tmp_path):
    """Twenty images without a ruler gain a lot, the others nothing; chance alone marks no slice."""
    rows, _ = drawn(80, 0.2)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.02, (2, 80))
    gain = np.array([0 if row["ruler"] else 0.1 for row in rows])
    for name, dice in (("a", 0.7 + noise[0]), ("b", 0.7 + noise[1] + gain), ("c", 0.7 + noise[1])):
        write(tmp_path / name, [{**row, "dice": float(d)} for row, d in zip(rows, dice, strict=True)])
    found = {entry["value"]: entry for entry in compare(tmp_path / "a", tmp_path / "b").result["slices"]}
    assert (found["without"]["differs"], found["with a ruler"]["differs"]) == (True, False)
    assert found["without"]["difference"]["mean"] == pytest.approx(0.1, abs=0.02)
    assert found["without"]["images"] == 40
    assert not any(entry["differs"] for entry in compare(tmp_path / "a", tmp_path / "c").result["slices"])
    few = {
        entry["value"]: entry
        for entry in compare(*by_hand(tmp_path / "few", [[0.1] * 6, [0.9] * 6], [[0.5] * 6] * 2)).result["slices"]
    }
    assert all(entry["small"] and not entry["differs"] for entry in few.values())


@pytest.mark.parametrize(("groups", "differs"), [(1, False), (3, False), (19, False), (25, True)])
def test_a_slice_of_few_groups_differs_from_nothing(groups, differs, tmp_path):
    """25 images without a ruler, and as many with one, that gain alike: of so few patients it is no evidence."""
    rows, _ = drawn(50, 0.2)
    of = [f"{'with' if row['ruler'] else 'without'}-{index // 2 % groups}" for index, row in enumerate(rows)]
    for name, dice in (("a", 0.7), ("b", 0.8)):
        noise = np.random.default_rng(0).normal(0, 0.01, len(rows))
        scored = [{**row, "dice": float(dice + off)} for row, off in zip(rows, noise, strict=True)]
        write(tmp_path / name, scored, groups=of)
    found = [entry for entry in compare(tmp_path / "a", tmp_path / "b").result["slices"] if entry["slice"] == "ruler"]
    assert [(entry["images"], entry["differs"], entry["small"]) for entry in found] == [(25, differs, not differs)] * 2


def test_models_of_different_grids_are_compared_at_native_size(folders, tmp_path):
    rows, pictures = drawn(COUNT, 0.2, seed=3)
    larger = write(tmp_path / "larger", rows, pictures, image_size=64)
    found = comparison.write(folders[0], larger, tmp_path / "out")
    assert found["compared_at"] == "native"
    assert "scores" not in found
    assert "On the model&#39;s grid" not in (tmp_path / "out/comparison.html").read_text()
    no_native = write(
        tmp_path / "no", [{**row, **dict.fromkeys(f"native_{name}" for name in SCORES)} for row in rows], image_size=64
    )
    with pytest.raises(ValueError, match="scored at 32 and 64 pixels, and one of them not at the images' own size"):
        compare(folders[0], no_native)
    alike = write(tmp_path / "alike", [{**row, **dict.fromkeys(f"native_{name}" for name in SCORES)} for row in rows])
    assert "native" not in compare(folders[0], alike).result


def test_without_reports_there_are_figures_and_no_pictures(folders, tmp_path):
    """As a study keeps its cells."""
    rows, _ = drawn(COUNT, 0.4, seed=4)
    bare = write(tmp_path / "bare", rows)
    found = comparison.write(bare, write(tmp_path / "other", drawn(COUNT, 0.1)[0]), tmp_path / "out")
    assert found["images"] == COUNT
    page = (tmp_path / "out/comparison.html").read_text()
    assert json.loads(page.partition('id="cases">')[2].partition("</script>")[0])["pictures"] == [None] * COUNT
    comparison.write(bare, folders[1], tmp_path / "half")
    page = (tmp_path / "half/comparison.html").read_text()
    parts = json.loads(page.partition('id="cases">')[2].partition("</script>")[0])["pictures"][0]
    assert (parts[3], bool(parts[4])) == ("", True)


def test_what_cannot_be_compared_is_said_in_one_line(folders, tmp_path, capsys):
    def refused(*places):
        assert cli.main(["compare", *map(str, places), "--output", str(tmp_path / "out")]) == 1
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    rows, pictures = drawn(COUNT, 0.4)
    fewer = write(tmp_path / "fewer", rows[:-1])
    assert "made from test images" in refused(folders[0], fewer)
    assert "compared with itself" in refused(folders[0], folders[0])
    assert "metrics.json: no such file" in refused(folders[0], tmp_path / "none")
    strange = write(tmp_path / "strange", rows, pictures)
    (strange / "report.html").write_text((folders[0] / "report.html").read_text())
    assert "of another evaluation than the figures beside it" in refused(folders[0], strange)
    table = strange / "per_image.csv"
    table.write_text(table.read_text().replace("CASE_0003", "CASE_000x"))
    assert "made from per_image.csv" in refused(folders[0], strange)
    old = write(tmp_path / "old", rows)
    (old / "metrics.json").write_text((old / "metrics.json").read_text().replace('"schema": 2', '"schema": 1'))
    assert "schema 1, this version reads 2" in refused(old, folders[0])


def test_the_command_writes_page_text_and_figures_that_agree(folders, tmp_path, capsys):
    own = tmp_path / "own.csv"
    own.write_text("id,camera\n" + "".join(f"CASE_{n:04},{'AB'[n % 2]}\n" for n in range(COUNT)))
    command = ["compare", *map(str, folders), "--columns", str(own), "--output", str(tmp_path / "out")]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "out/comparison.json").read_text())
    text, page = ((tmp_path / f"out/comparison.{kind}").read_text() for kind in ("md", "html"))
    assert {entry["value"] for entry in found["slices"] if entry["slice"] == "camera"} == {"A", "B"}
    for shown in (said, text, page):
        assert found["verdict"] in shown
    for name in SCORES:
        one = found["scores"][name]
        shown = f"| {SHOWN[name]} | {one['first']:.{digits(name)}f} | {one['second']:.{digits(name)}f} | "
        assert shown in text
    for one in found["flips"]["failed_in_first"]:
        assert f"- {one['id']}: IoU {one['first_iou']:.3f} → {one['second_iou']:.3f}" in text
    for reference in ("https:", "<link", "url(", "fetch(", "import("):
        assert reference not in page
    again = tmp_path / "again"
    assert cli.main([*command[:-1], str(again)]) == 0
    for name in ("comparison.html", "comparison.md", "comparison.json"):
        assert (again / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


AFTER = f"<script>{Path(__file__).with_name('comparison_driver.js').read_text()}</script>"


@pytest.fixture(scope="module")
def used(written, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    text = (written[1] / "comparison.html").read_text()
    file = folder / "a comparison.html"
    file.write_text(text.replace("<title>", f"{BEFORE}<title>", 1).replace("</body>", f"{AFTER}</body>"))
    encoded = re.search(r'<pre id="found">([^<]+)</pre>', dom(file, folder / "profile"))
    assert encoded, "the page's own script did not run"
    return json.loads(base64.b64decode(encoded[1]))


def test_the_page_asks_for_nothing_and_fits_its_window(used):
    assert used["faults"] == []
    assert used["requests"] == []
    assert used["labelled"]
    assert used["wide"] == []
    assert used["theme"][0] != used["theme"][1]


def test_cases_stand_by_difference_and_in_any_order(used, folders):
    a, b = (side.rows for side in compare(*folders).sides)
    gain = {one["id"]: round(other["dice"] - one["dice"], 6) for one, other in zip(a, b, strict=True)}
    assert used["order"] == "difference"
    assert used["first"][:48] == sorted(gain, key=lambda id: (gain[id], id))[:48]
    assert used["down"][:48] == sorted(gain, key=lambda id: (-gain[id], id))[:48]
    dice = {row["id"]: round(row["dice"], 6) for row in b}
    assert used["second"][:48] == sorted(dice, key=lambda id: (dice[id], id))[:48]


def test_failures_flips_and_dots_lead_to_their_cases(used, written, folders):
    result, (a, b) = written[0], (side.rows for side in compare(*folders).sides)
    failed = sum(one["iou"] < 0.65 or other["iou"] < 0.65 for one, other in zip(a, b, strict=True))
    assert used["failed"] == f"{failed} of {COUNT}"
    flips = result["flips"]["failed_in_first"]
    assert flips
    assert used["flipped"][:2] == ["failed in plain unet alone", f"{len(flips)} of {COUNT}"]
    assert set(used["flipped"][2:]) == {one["id"] for one in flips}
    assert used["dots"] == COUNT
    assert used["dot"][0]
    assert used["dot"][1].startswith("CASE_0007 (")
    assert used["all"] == f"{COUNT} of {COUNT}"


def test_both_models_stand_side_by_side(used):
    assert used["card"] == 3
    assert used["sides"] == [["plain unet", "truth", "prediction"], ["hymunet", "truth", "other"]]
    assert used["without"] == [["plain unet", "truth"], ["hymunet", "truth"]]
    assert used["beside"]
    assert used["probabilities"][0]
    assert used["probabilities"][2]
    assert used["zoom"] == ["150%", "150%"]
    assert (used["right"], used["end"], used["closed"]) == ("1", "59", True)
    assert "2 of 60" in used["next"]


def test_names_that_look_like_markup_stay_text(tmp_path):
    folders = []
    for name, error in (("<b>one</b>", 0.3), ("two | <script>", 0.4)):
        rows, pictures = drawn(8, error)
        rows[2]["id"] = EVIL
        folders.append(write(tmp_path / name.replace("/", "∕"), sorted(rows, key=lambda row: row["id"]), pictures))
    comparison.write(*folders, tmp_path / "out")
    page = (tmp_path / "out/comparison.html").read_text()
    for text in (EVIL, "<b>one", "| <script>"):
        assert text not in page
    text = (tmp_path / "out/comparison.md").read_text()
    assert "two \\| &lt;script&gt;" in text
    assert "<" not in text, "readers of Markdown pass markup on"
