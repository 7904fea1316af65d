"""Each source has a profile whose bounds its own images meet: all of Kvasir-SEG, and the same as one's own folder."""

import json
import zipfile
from pathlib import Path

import pytest

from hymunet import params, profiles
from hymunet.data.acquire.download import download
from hymunet.data.acquire.published import sums_sha256
from hymunet.data.acquire.transfer import file_sha256
from hymunet.data.check.expectations import validate
from hymunet.data.divide.split import assign, summary, to_csv
from hymunet.data.prepare.manifest import read_manifest
from hymunet.data.prepare.prepare import prepare
from tests.support.training_data import ROOT, isic_folder

ARCHIVE = "kvasir-seg.zip"


@pytest.fixture(scope="module")
def archive() -> Path:
    folder = isic_folder()
    if folder is None or not (folder / ARCHIVE).exists():
        pytest.skip(f"no {ARCHIVE}: name its folder with HYMUNET_ISIC_DIR")
    return folder / ARCHIVE


def of_profile(name: str, source: str, **values: str) -> params.Params:
    """The parameters that `hymunet profile NAME` writes, with these keys of the source's section."""
    content = params.read_yaml(ROOT / "profiles/paper.yaml")
    profiles.lay_over(content, params.read_yaml(ROOT / f"profiles/{name}.yaml"))
    assert content["data"]["source"] == source
    content["data"][source] |= values
    return params.check(content)


def failures(chosen: params.Params, root: Path) -> list[str]:
    """Of the data checks, after the steps before; every image a group of its own, which is what takes long."""
    download(chosen.data, root / "raw")
    prepare(root / "raw", root / "prepared", 64, chosen.prepare.on_bad_pair)
    groups = {row["id"]: row["id"] for row in read_manifest(root / "prepared/manifest.parquet")}
    assigned = assign(groups, chosen.split.fractions, chosen.split.seed, "grouped")
    (root / "split").mkdir()
    (root / "split/split.csv").write_text(to_csv(groups, assigned))
    (root / "split/split.json").write_text(json.dumps(summary(groups, assigned, "grouped", 0)))
    (root / "report").mkdir()
    return [str(one) for one in validate(chosen.validate_, root / "prepared", root / "split", root / "report")]


def test_all_of_kvasir_passes_with_its_profile(archive, tmp_path):
    sums = sums_sha256({ARCHIVE: file_sha256(archive)})
    assert failures(of_profile("kvasir", "kvasir_seg", mirror=str(archive.parent), sums=sums), tmp_path) == []
    manifest = read_manifest(tmp_path / "prepared/manifest.parquet")
    assert len(manifest) == 1000


def test_the_same_images_in_a_folder_pass_with_the_folder_s_profile(archive, tmp_path):
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            if name.endswith(".jpg"):
                target = tmp_path / "mine" / Path(name).parent.name / Path(name).name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read(name))
    assert failures(of_profile("folder", "folder", path=str(tmp_path / "mine")), tmp_path) == []


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml")))
def test_every_profile_is_valid_and_says_why_its_bounds_are_what_they_are(name, tmp_path):
    (tmp_path / "profiles").symlink_to(ROOT / "profiles")
    profiles.write(name, tmp_path / "params.yaml")
    lines = (ROOT / f"profiles/{name}.yaml").read_text().splitlines()
    bounds = [line for line in lines if line.strip().startswith(("mask_area", "median_", "max_", "min_images"))]
    if name != "paper":
        assert all("#" in line for line in bounds)
