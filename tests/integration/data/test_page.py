"""The report of the data checks in a real browser without a network: a set that passes, and one that is refused."""

import html
import json
import re

import cv2
import numpy as np
import pytest

from hymunet import params
from hymunet.data.acquire.synthetic import draw
from hymunet.data.check.expectations import validate
from hymunet.data.divide.split import assign, summary, to_csv
from hymunet.data.prepare.decode import decode_pair
from hymunet.data.prepare.manifest import write_manifest
from tests.support import browser
from tests.support.training_data import ROOT
from tests.unit.data.test_prepare import encoded

IMAGES, SIZE = 110, 64
NAMES = {3: "100 % <b>lesion</b> & more", 5: "ü, 5"}  # odd names stay what they are


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Drawn pairs, two of which are all but covered by their mask."""
    folder, rows, arrays = tmp_path_factory.mktemp("100% sets"), [], []
    for index in range(IMAGES):
        image, mask = draw(index, SIZE, seed=2)
        if index in NAMES:
            mask = np.full_like(mask, 255)
            mask[0, 0] = 0
        pair = decode_pair(encoded(image), encoded(mask), 127, SIZE)
        rows.append({"id": NAMES.get(index, f"{index:03}"), "official_split": "", **pair.facts})
        arrays.append((rows[-1]["id"], pair))
    arrays.sort(key=lambda pair: pair[0])
    write_manifest(sorted(rows, key=lambda row: row["id"]), folder / "manifest.parquet")
    np.save(folder / "images.npy", np.stack([pair.image for _, pair in arrays]))
    np.save(folder / "masks.npy", np.stack([pair.mask for _, pair in arrays]))
    (folder / "prepare.json").write_text(json.dumps({"sha256": "of the arrays", "source": "synthetic"}))
    groups = {row["id"]: row["id"] for row in rows}
    assigned = assign(groups, (0.8, 0.1, 0.1), 0, "grouped")
    (folder / "split").mkdir()
    (folder / "split/split.csv").write_text(to_csv(groups, assigned))
    (folder / "split/split.json").write_text(json.dumps(summary(groups, assigned, "grouped", 0)))
    return folder


@pytest.mark.integration
@pytest.mark.parametrize("largest", [pytest.param(1.0, marks=pytest.mark.slow), 0.99], ids=["passed", "refused"])
def test_people_see_the_verdict_the_checks_and_the_images(prepared, tmp_path, largest):
    content = params.read_yaml(ROOT / "profiles/paper.yaml")["validate"] | {"mask_area": [0.001, largest]}
    failures = validate(params.Validate.model_validate(content), prepared, prepared / "split", tmp_path)
    refused = largest < 1
    assert len(failures) == refused
    record = json.loads((tmp_path / "validation.json").read_text())
    page = browser.dom(tmp_path / "report.html", tmp_path / "profile")
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)
    assert ("Refused" if refused else "Passed") in text.split("Data checks", 2)[2][:40], "the verdict comes first"
    for check in record["checks"]:
        assert check["check"].replace("&", "&amp;") in text
    assert page.count("<svg") == 3
    assert page.count("<rect") >= 3 * 40
    pictures = re.findall(r'<img src="data:image/jpeg;base64,[^"]+"[^>]*alt="([^"]*)"', page)
    assert list(map(html.unescape, pictures)) == (sorted(NAMES.values()) if refused else [])
    assert ("Found: 2 of 110 values do not" in text) == refused
    assert not re.search(r"(src|href)=\"https?:", page)
    shown = cv2.imread(str(browser.screenshot(tmp_path / "report.html", tmp_path / "profile", tmp_path / "page.png")))
    verdict = shown[:400].reshape(-1, 3)
    green, red = ((verdict == colour).all(1).mean() for colour in ([238, 246, 233], [236, 236, 253]))
    assert (red > 0.05, green > 0.05) == (refused, not refused), "the colour of the verdict's box"
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 50
