"""The page in a real browser that reaches no network: order, choice, keys, themes, no error, contrast of colours."""

import base64
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from hymunet.evaluation import slices
from hymunet.evaluation.calibration import histogram, summary
from hymunet.evaluation.confidence import selective
from hymunet.evaluation.record import false_alarms, summarise
from hymunet.evaluation.report.page import HERE, page, picture_side, read_cases
from hymunet.evaluation.thumbnails import outline, thumbnail
from hymunet.metrics import SCORES
from tests.support.browser import dom
from tests.support.devtools import browser
from tests.unit.evaluation.test_measure import image_scores

INFO = {"model": {"name": "unet", "size": "small"}, "epoch": 3, "validation_dice": 0.8}
EVIL = "<script>alert('id')</script>"


def drawn(count, side=32):
    """Rows, pictures and a record of as many circles, each found a little wrong."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    rows, pictures = [], []
    for index in range(count):
        centre, radius = rng.uniform(0.4, 0.6, 2) * side, rng.uniform(0.1, 0.35) * side
        distance = np.hypot(x - centre[0], y - centre[1])
        truth, mask = distance < radius, distance < radius * rng.uniform(0.4, 1.3)
        probability = (1 / (1 + np.exp(distance - radius))).astype(np.float32)
        image = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        scores = image_scores(mask, truth)
        native = {f"native_{name}": value for name, value in scores.items()}
        seen = {"contrast": 20.0, "hair": 0.0, "ruler": False, "sticker": False, "source": "isic2018"}
        facts = {"mask_area": float(truth.mean()), "components": 1, "touches_border": False, "dark_corners": 0}
        sure = {"confidence": float(rng.random()), "suspicion": 0.4 * (index == 3), "megapixels": 0.5}
        rows.append({"id": f"CASE_{index:04}", **scores, **native, **seen, **facts, **sure})
        pictures.append(thumbnail(image, truth, mask, probability, side))
    rows[1]["id"] = EVIL
    return rows, pictures


def rendered(count, cases=None):
    rows, pictures = cases or drawn(count)
    members = slices.members(rows)
    rng = np.random.default_rng(1)
    pixels = summary(histogram(rng.random(1000).astype(np.float32), rng.integers(0, 2, 1000)))
    dice, iou, sure = ([row[name] for row in rows] for name in ("dice", "iou", "confidence"))
    result = {
        "test": summarise(rows, 100, 0, None),
        "native": summarise(rows, 100, 0, None, "native_"),
        "calibration": {"whole": pixels, "band": pixels},
        "confidence": selective(sure, dice, iou),
        "slices": slices.scores(rows, members, 100, 0),
        "shifts": [{"shift": "darker", "dice": 0.7, "difference": {"mean": -0.1, "low": -0.2, "high": 0.0}}],
        "left_out": {EVIL: "no mask"},
        "grouped_by": "near-duplicates",
        **{"threshold": 0.5, "temperature": 1.3, "flips": False, "image_size": 32, "source": "isic2018"},
        **{"weights_sha256": "ab" * 32, "test_images_sha256": "cd" * 32},
    }
    text = page(result, rows, pictures, members, info=INFO, parameters=9, dataset={"images": count}, curves=None)
    return text, rows


# Before and after the page's own script; page_driver.js uses the page and leaves what it found in the document.
BEFORE = "<script>window.faults = []; addEventListener('error', (e) => faults.push(String(e.message)));</script>"
AFTER = f"<script>{Path(__file__).with_name('page_driver.js').read_text()}</script>"


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    text, rows = rendered(60)
    folder = tmp_path_factory.mktemp("page")
    file = folder / "a report, 100 % ours.html"
    file.write_text(text.replace("<title>", f"{BEFORE}<title>", 1).replace("</body>", f"{AFTER}</body>"))
    content = dom(file, folder / "profile")
    encoded = re.search(r'<pre id="found">([^<]+)</pre>', content)
    assert encoded, "the page's own script did not run"
    return json.loads(base64.b64decode(encoded[1])), rows


def test_no_error_and_no_request(used):
    found, _ = used
    assert found["faults"] == []
    assert found["requests"] == []
    assert found["labelled"]
    assert found["wide"] == [], "parts of the page are wider than its window"


def test_cases_stand_worst_first_and_in_any_order(used):
    found, rows = used
    by_dice = [row["id"] for row in sorted(rows, key=lambda row: (round(row["dice"], 6), row["id"]))]
    assert found["first"][:48] == by_dice[:48]
    down = sorted(rows, key=lambda row: (-round(row["dice"], 6), row["id"]))
    assert found["down"][:48] == [row["id"] for row in down][:48]
    by_confidence = sorted(rows, key=lambda row: -row["confidence"])
    assert found["confidence"][:48] == [row["id"] for row in by_confidence][:48]


def test_slices_names_failures_and_contradicted_labels_choose(used):
    found, rows = used
    assert found["failed"] == f"{sum(row['iou'] < 0.65 for row in rows)} of 60"
    assert found["search"] == ["CASE_0007"]
    assert found["slice"][1] != "60 of 60"
    assert found["suspicious"] == "CASE_0003"
    assert found["label"] == [True, f"CASE_0003 (1 of {len(rows)})"]


def test_it_can_be_used_by_keyboard(used):
    found, _ = used
    assert (found["right"], found["below"], found["end"]) == ("1", True, "59")
    assert (found["open"], found["closed"]) == (True, True)
    assert "1 of 60" in found["title"]
    assert "2 of 60" in found["next"]
    assert (found["both"], found["without"], found["zoom"], found["probability"]) == (2, 1, "150%", True)
    assert found["numbers"] > 30
    assert found["theme"][0] != found["theme"][1]


def test_names_that_look_like_markup_stay_text(used):
    found, _ = used
    assert EVIL in found["first"] or EVIL in found["down"]
    text, _ = rendered(12)
    assert EVIL not in text


LAID = """<script>
const root = document.documentElement, width = root.clientWidth, right = (e) => e.getBoundingClientRect().right;
const cut = [...document.querySelectorAll('main *')].filter((e) => right(e) > width + 1 && !e.closest('.hidden'));
const ground = getComputedStyle(document.body).backgroundColor, out = document.createElement('pre');
const laid = { sideways: root.scrollWidth - width, cut: cut.map((e) => e.outerHTML.slice(0, 80)), ground };
out.id = 'laid'; out.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(laid)))); document.body.append(out);
</script>"""
MEDIA = {"screen": "speech", "print": "all"}
PAPER = "733,1000"  # A4 within Chromium's margins, and a scroll bar


def laid_out(text, folder, size, printed=False):
    """How a browser lays a page out. printed: by the rules for paper, on a page that was made dark."""
    if printed:
        text = re.sub(r"@media (screen|print)", lambda found: f"@media {MEDIA[found[1]]}", text)
        text = text.replace("<html ", '<html data-theme="dark" ', 1)
    file = folder / "page.html"
    file.write_text(text.replace("</body>", f"{LAID}</body>"))
    encoded = re.search(r'<pre id="laid">([^<]+)</pre>', dom(file, folder / "profile", size))
    assert encoded
    return json.loads(base64.b64decode(encoded[1]))


@pytest.mark.parametrize("size", ["500,900", "800,600", "1200,900"])
def test_the_page_goes_up_and_down_alone(tmp_path, size):
    assert laid_out(rendered(40)[0], tmp_path, size)["sideways"] == 0, "wide tables move within themselves"


@pytest.mark.parametrize(("width", "height"), [(900, 700), (2560, 1440), (3840, 2160)])
def test_every_case_is_reached_by_scrolling_on_a_screen_of_any_size(tmp_path, width, height):
    """Also where a batch is shorter than what is drawn ahead, and after the order is changed at the page's end."""
    file = tmp_path / "report.html"
    file.write_text(rendered(300)[0], encoding="utf-8")
    number = "document.querySelectorAll('.case').length"
    with browser(tmp_path / "profile") as page:
        page.size(width, height)
        page.open(file.as_uri())
        for _ in range(2):
            for _ in range(60):
                page.evaluate("""window.scrollTo(0, document.body.scrollHeight);
                    new Promise((resolve) => { setTimeout(resolve, 50); })""")
                if page.evaluate(number) == 300:
                    break
            assert page.evaluate(number) == 300
            page.evaluate("document.getElementById('direction').click()")


def test_on_paper_nothing_is_cut_and_the_ground_is_white(tmp_path):
    found = laid_out(rendered(40)[0], tmp_path, PAPER, printed=True)
    assert found["cut"] == []
    assert found["ground"] == "rgb(255, 255, 255)"


def luminance(colour):
    parts = [int(colour.lstrip("#")[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_name_too_long_for_its_card_ends_in_dots_and_is_told_whole(used):
    found, _ = used
    assert found["cards"]
    assert {tuple(card) for card in found["cards"]} == {(True, "block")}, "text-overflow works in blocks alone"


@pytest.mark.parametrize(
    ("truth", "mask", "finds", "missed"),
    [(False, True, "something where the mask is empty", 0), (True, False, "nothing of the mask", 1)],
)
def test_what_was_found_where_nothing_is_is_no_missed_lesion(truth, mask, finds, missed):
    rows, pictures = drawn(6)
    disc = np.hypot(*np.mgrid[-16:16, -16:16]) < 8
    corner = np.zeros_like(disc)
    corner[:4, :4] = True
    rows[3].update(image_scores(corner if truth else disc & mask, disc & truth), suspicion=0.9)
    text = rendered(6, (rows, pictures))[0]
    assert f"<td>{finds}</td>" in text
    assert f"; {missed} missed altogether" in text


DISC, NOTHING = np.hypot(*np.mgrid[-16:16, -16:16]) < 8, np.zeros((32, 32), bool)


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ([(DISC, DISC)] * 2, ""),
        (
            [(DISC, DISC), (NOTHING, DISC), (NOTHING, NOTHING), (DISC, NOTHING)],
            "Images without a lesion: 2 of 4, of them with a false alarm: 1 (specificity by image 50.0 %); "
            "Dice of the images with a lesion: 0.5000",
        ),
        (
            [(NOTHING, NOTHING)] * 3,
            "Images without a lesion: 3 of 3, of them with a false alarm: 0 (specificity by image 100.0 %)",
        ),
    ],
    ids=["a lesion in each", "of either kind", "a lesion in none"],
)
@pytest.mark.parametrize("prefix", ["", "native_"])
def test_false_alarms_are_counted(cases, said, prefix):
    """cases: what is found, what there is."""
    rows, pictures = drawn(len(cases))
    for row, (mask, truth) in zip(rows, cases, strict=True):
        scores = image_scores(mask, truth)
        row |= scores | {f"native_{name}": scores[name] for name in SCORES} | {"mask_area": float(truth.mean())}
    assert false_alarms(summarise(rows, 100, 0, None, prefix)) == said
    text = rendered(len(cases), (rows, pictures))[0]
    assert said in text
    assert ("false alarm" in text) == bool(said)


def test_one_image_that_was_left_out_is_told_of_as_one():
    assert "1 image was left out:" in rendered(6)[0]


def test_text_has_the_contrast_that_wcag_asks_for_in_both_themes():
    style = (HERE / "style.css").read_text()
    themes = re.findall(r"color-scheme: (light|dark); ([^}]*)", style)
    assert sorted({name for name, _ in themes}) == ["dark", "light"]
    for name, declared in themes:
        colours = dict(re.findall(r"--([\w-]+): (#\w+)", declared))
        colours = {k: "#" + "".join(2 * c for c in v[1:]) if len(v) == 4 else v for k, v in colours.items()}
        pairs = [(text, ground) for text in ("text", "quiet", "link") for ground in ("page", "raised")]
        for text, ground in [*pairs, ("text", "warn"), ("accent", "page"), ("second", "page")]:
            light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
            wanted = 3 if text in ("accent", "second") else 4.5  # lines and marks; text
            assert (light + 0.05) / (dark + 0.05) >= wanted, f"{name}: {text} on {ground}"


def test_a_thousand_cases_are_one_page_of_a_few_megabytes_made_in_seconds(tmp_path):
    start = time.process_time()
    text, _ = rendered(1000)
    assert time.process_time() - start < 30
    assert len(text) < 25_000_000
    file = tmp_path / "report.html"
    file.write_text(text)
    assert len(read_cases(file)["ids"]) == 1000
    assert [picture_side(count) for count in (1, 300, 301, 5001)] == [256, 256, 192, 96]


def test_the_cases_of_another_page_are_refused_by_name(tmp_path):
    (tmp_path / "other.html").write_text("<html></html>")
    for name, said in (("other.html", "no report of this version"), ("none.html", "no such file")):
        with pytest.raises(ValueError, match=f"{name}: {said}"):
            read_cases(tmp_path / name)


def test_an_outline_is_the_border_of_the_mask_in_thousandths():
    mask = np.zeros((10, 10), np.uint8)
    mask[2:5, 3:7] = 1
    numbers = [int(n) for n in re.findall(r"\d+", outline(mask))]
    assert (min(numbers[::2]), max(numbers[::2])) == (350, 650)
    assert (min(numbers[1::2]), max(numbers[1::2])) == (250, 450)
    assert outline(mask * 0) == ""
