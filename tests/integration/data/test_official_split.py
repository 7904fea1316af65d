"""ISIC's own validation and test sets, from the archives to the data checks: they stay what their publisher says."""

import csv
import json
import zipfile

import pytest

from components.download.__main__ import main as download
from components.prepare.__main__ import main as prepare
from components.split.__main__ import main as split
from components.validate.__main__ import main as validate
from hymunet import params
from hymunet.data.acquire.published import sums_sha256
from hymunet.data.acquire.sources import SOURCES
from hymunet.data.acquire.synthetic import draw
from hymunet.data.acquire.transfer import file_sha256
from hymunet.data.prepare.manifest import read_manifest
from tests.integration.data.test_download import ROOT
from tests.unit.data.test_prepare import encoded

COUNTS = {"Training": 100, "Validation": 7, "Test": 12}
NAMES = {"Training": "train", "Validation": "validation", "Test": "test"}


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """The official archives in miniature; one lesion of the training set is in the test set too."""
    folder, index = tmp_path_factory.mktemp("mirror"), 0
    for kind, count in COUNTS.items():
        inputs, truths = f"ISIC2018_Task1-2_{kind}_Input", f"ISIC2018_Task1_{kind}_GroundTruth"
        with (
            zipfile.ZipFile(folder / f"{inputs}.zip", "w") as images,
            zipfile.ZipFile(folder / f"{truths}.zip", "w") as masks,
        ):
            for position in range(count):
                drawn = 0 if (kind, position) == ("Test", 0) else index
                image, mask = draw(drawn, 128, seed=4)
                images.writestr(f"{inputs}/ISIC_{index:07}.jpg", encoded(image, "JPEG", quality=95 - (index > 0)))
                masks.writestr(f"{truths}/ISIC_{index:07}_segmentation.png", encoded(mask))
                index += 1
    return folder


def run(mirror, root, official):
    """The four steps below `root`; returns the manifest, split.csv and split.json."""
    content = params.read_yaml(ROOT / "profiles/paper.yaml")
    extra = SOURCES["isic2018"].extra if official else ()
    names = [archive.name for archive in SOURCES["isic2018"].archives + extra]
    sums = sums_sha256({name: file_sha256(mirror / name) for name in names})
    content["data"]["isic2018"] |= {"mirror": str(mirror), "sums": sums, "official_test": official}
    content["prepare"]["image_size"] = 32
    content["validate"]["min_images"] = 100
    root.mkdir()
    (root / "params.yaml").write_text(json.dumps(content))  # JSON is YAML
    options = ["--params", str(root / "params.yaml")]
    raw, prepared, assigned = (str(root / name) for name in ("raw", "prepared", "split"))
    download([*options, "--output", raw])
    prepare([*options, "--raw", raw, "--output", prepared])
    split([*options, "--prepared", prepared, "--output", assigned])
    paths = ["--prepared", prepared, "--split", assigned, "--output", str(root / "validation")]
    assert validate([*options, *paths]) == 0
    with (root / "split/split.csv").open() as file:
        rows = list(csv.DictReader(file))
    return read_manifest(root / "prepared/manifest.parquet"), rows, json.loads((root / "split/split.json").read_text())


def test_the_publisher_s_split_is_kept_and_what_it_tears_is_said(mirror, tmp_path, capsys):
    manifest, rows, record = run(mirror, tmp_path / "official", official=True)
    kinds = [name for kind, count in COUNTS.items() for name in [NAMES[kind]] * count]
    assert [row["official_split"] for row in manifest] == kinds
    assert [row["split"] for row in rows] == kinds
    assert (record["protocol"], record["sizes"]) == ("official", {"train": 100, "validation": 7, "test": 12})
    assert record["torn_groups"] == 1
    assert rows[107]["group"] == "ISIC_0000000"
    assert "split (official)" in capsys.readouterr().out


@pytest.mark.slow
def test_without_them_the_split_is_made_of_the_training_images(mirror, tmp_path):
    manifest, rows, record = run(mirror, tmp_path / "own", official=False)
    assert {row["official_split"] for row in manifest} == {""}
    assert (len(rows), record["protocol"]) == (100, "grouped")
    assert record["sizes"] == {"train": 80, "validation": 10, "test": 10}
