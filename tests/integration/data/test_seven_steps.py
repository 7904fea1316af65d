"""Published sets' layouts and people's folders, in miniature, through all seven programs to a registered model."""

import csv
import importlib
import json
import zipfile

import pytest
from ruamel.yaml import YAML

from hymunet import params, profiles
from hymunet.data.acquire.published import sums_sha256
from hymunet.data.acquire.sources import SOURCES
from hymunet.data.acquire.transfer import file_sha256
from tests.integration.data.test_layouts import COUNT, FOLDERS, ISIC, ZIPS, pairs, write, zipped
from tests.support.training_data import ROOT

STEPS = ("download", "prepare", "split", "validate", "train", "evaluate", "register")
TINY = {
    "model": {"name": "unet", "size": "small"},
    "prepare": {"image_size": 32},
    "split": {"fractions": [0.5, 0.25, 0.25]},
    "validate": {"min_images": COUNT},
    "train": {"epochs": 1, "batch_size": 4, "workers": 0, "example_every": 0, "compile": "off", "augment": "device"},
    "evaluate": {"bootstrap": 100},
}


def folder(layout):
    files, ids = FOLDERS[layout]
    return lambda place: ("folder", {"path": str(write(place / "mine", files))}, ids or list(map(str, range(COUNT))))


def kvasir(layout):
    def make(place):
        path = zipped(place / "mirror/kvasir-seg.zip", ZIPS[layout])
        ids = [str(name).upper() if "case" in layout else str(name) for name in range(COUNT)]
        sums = sums_sha256({path.name: file_sha256(path)})
        return "kvasir_seg", {"mirror": str(path.parent), "sums": sums}, ids

    return make


def isic_2018(place):
    archives = [place / archive.name for archive in SOURCES["isic2018"].archives]
    for path in archives:
        name = path.stem
        files = pairs(f"{name}/{{}}.jpg", f"{name}/{{}}_segmentation.png", names=ISIC)
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(f"{name}/LICENSE.txt", b"CC-0")
            for member, content in files.items():
                if member.endswith("jpg") == ("Input" in name):
                    file.writestr(member, content)
    sums = sums_sha256({path.name: file_sha256(path) for path in archives})
    return "isic2018", {"mirror": str(place), "sums": sums}, ISIC


LAYOUTS = {  # how the set comes -> its maker, and whether `make test` has it too; the card's word for its images
    "CVC-ClinicDB": (folder("CVC-ClinicDB"), False, "its maker's own folder"),
    "PH2": (folder("PH2"), False, "its maker's own folder"),
    "Kvasir-SEG, one folder deeper": (kvasir("one folder deeper"), False, "endoscopic"),
    "what a camera, a Mac, a NAS and a notebook leave": (
        folder("what a camera, a Mac, a NAS and a notebook leave"),
        True,
        "its maker's own folder",
    ),
    "CVC-ClinicDB as PNG": (folder("CVC-ClinicDB as PNG, named by numbers"), False, "its maker's own folder"),
    "ISIC 2016": (folder("ISIC 2016"), False, "its maker's own folder"),
    "ISIC 2017": (folder("ISIC 2017"), False, "its maker's own folder"),
    "ISIC 2018, unpacked": (folder("ISIC 2018, unpacked"), False, "its maker's own folder"),
    "ISIC 2018": (isic_2018, False, "dermoscopic"),
    "Kvasir-SEG, as published": (kvasir("as published"), False, "endoscopic"),
    "Kvasir-SEG, flat": (kvasir("without the outer folder"), False, "endoscopic"),
    "Kvasir-SEG, in other case": (kvasir("in other case"), False, "endoscopic"),
    "Kvasir-SEG, zipped on a Mac": (kvasir("from a Mac"), False, "endoscopic"),
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """One for all rows: MLflow takes seconds to make its tables."""
    return tmp_path_factory.mktemp("registry") / "mlflow.db"


def write_params(path, source, section):
    content = params.read_yaml(ROOT / "profiles/paper.yaml")
    profiles.lay_over(content, TINY)
    profiles.lay_over(
        content, {"data": {"source": source, source: section}, "register": {"model_name": path.parent.name}}
    )
    content["validate"]["median_mask_area"] = [0.0, 1.0]
    YAML().dump(content, path)


@pytest.mark.integration
@pytest.mark.parametrize(
    "layout",
    [layout if often else pytest.param(layout, marks=pytest.mark.slow) for layout, (_, often, _) in LAYOUTS.items()],
)
def test_a_set_as_it_comes_ends_as_a_registered_model(layout, registry, tmp_path, monkeypatch, capsys):
    make, _, images = LAYOUTS[layout]
    source, section, ids = make(tmp_path)
    write_params(tmp_path / "params.yaml", source, section)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registry}")
    monkeypatch.setenv("HYMUNET_TRACKING", "off")
    for step in STEPS:
        program = importlib.import_module(f"components.{step}.__main__")
        assert not program.main([]), step

    prepared = json.loads((tmp_path / "data/prepared/prepare.json").read_text())
    assert (prepared["images"], prepared["dropped"]) == (COUNT, {})
    with (tmp_path / "data/split/split.csv").open(newline="") as file:
        splits = {row["id"]: row["split"] for row in csv.DictReader(file)}
    assert sorted(splits) == sorted(ids)
    assert set(splits.values()) == {"train", "validation", "test"}
    with (tmp_path / "reports/evaluation/per_image.csv").open(newline="") as file:
        assert {row["id"] for row in csv.DictReader(file)} == {id for id in ids if splits[id] == "test"}
    assert json.loads((tmp_path / "reports/registration/registration.json").read_text())["version"] == 1

    from mlflow import MlflowClient

    version = MlflowClient().get_model_version_by_alias(tmp_path.name, "challenger")
    assert f"source `{source}`" in version.description
    assert images in version.description
