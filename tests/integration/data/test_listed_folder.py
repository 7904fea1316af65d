"""A folder with patients and with images without a lesion, by `dvc repro` and by the steps of Kubeflow's pods.

What decides is computed again when it changes, and nothing else is.
"""

import csv
import json
import shutil
from pathlib import Path

import cv2
import pytest

from hymunet import params
from hymunet.data.acquire.synthetic import draw
from pipelines.workspace import read_lock
from tests.integration.pipelines.toy import Toy
from tests.support.checkout import TINY, run, stages_run, write_params
from tests.support.training_data import ROOT

STAGES = ["download", "prepare", "split", "validate"]
COUNT, EMPTY = 24, 6  # images, of them without a lesion: the first ones


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the data's steps are, and beside it the folder."""
    place = tmp_path_factory.mktemp("listed")
    project = place / "source"
    for name in ("hymunet", "components"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, project / name)
    for kind in ("images", "masks"):
        (place / "mine" / kind).mkdir(parents=True)
    for number in range(COUNT):
        image, mask = draw(number, 48, 3)
        cv2.imwrite(str(place / f"mine/images/case_{number:02}.png"), image)
        cv2.imwrite(str(place / f"mine/masks/case_{number:02}.png"), mask * (number >= EMPTY))
    patients(place, 2)
    parameters(project)
    return project


def parameters(project: Path, most: float = 0.3) -> None:
    mine = {"source": "folder", "folder": {"path": str(project.parent / "mine")}}
    changes = {"prepare": {"image_size": 32, "max_without_lesion": most}, "split": {"fractions": [0.5, 0.25, 0.25]}}
    write_params(project / "params.yaml", {**TINY, "data": mine, **changes})


def patients(place: Path, size: int) -> None:
    lines = [f"case_{number:02},patient {number // size}\n" for number in range(COUNT)]
    (place / "mine/groups.csv").write_text("".join(["image,group\n", *lines]))


def torn(split: str, size: int) -> int:
    """Patients of so many images on more than one side."""
    rows = csv.DictReader(split.splitlines())
    sides = {(number // size, row["split"]) for number, row in enumerate(rows)}
    return len(sides) - COUNT // size


def test_dvc_computes_what_a_changed_listing_or_share_asks_for(project: Path) -> None:
    folder = project.parent / "clone"
    shutil.copytree(project, folder)
    assert run(folder, "dvc", "init", "--no-scm", "-q").returncode == 0

    def repro(expected: list[str]) -> str:
        done = run(folder, "dvc", "repro", "validate")
        assert done.returncode == 0, done.stdout + done.stderr
        assert stages_run(done) == expected
        return (folder / "data/split/split.csv").read_text()

    first = repro(STAGES)
    assert torn(first, 2) == 0 < torn(first, 4)
    record = json.loads((folder / "data/split/split.json").read_text())
    assert record["groups_listed"] == COUNT / 2
    assert all(record["without_lesion"].values())
    assert repro([]) == first
    patients(folder.parent, 4)
    assert torn(repro(STAGES), 4) == 0, "groups.csv alone has changed"
    patients(folder.parent, 2)
    assert repro([]) == first, "as it was: restored"
    parameters(folder, 0.4)
    assert repro(["prepare"]) == first, "as many are allowed: prepared again, to the same bytes"
    parameters(folder, 0.2)
    done = run(folder, "dvc", "repro", "validate")
    assert done.returncode != 0
    assert f"{EMPTY} of {COUNT} images are without a lesion" in done.stderr + done.stdout


def test_the_steps_of_a_pod_compute_what_a_changed_listing_asks_for(project: Path) -> None:
    """Each in an empty folder, from what the steps before handed on."""
    place = project.parent
    (place / "remote").mkdir()
    steps, content = Toy(place, str(place / "remote"), {}), params.read_yaml(project / "params.yaml")
    options = {"validate": ["--report", "reports/validation/report.html"]}
    options["validate"] += ["--verdict", "reports/validation/verdict.json"]

    def states(name: str) -> tuple[list[str], str]:
        """Of the stages, and the hash of the split."""
        for stage, before in zip(STAGES, [None, *STAGES], strict=False):
            steps.step(name, stage, before, content, *options.get(stage, []))
        records = [json.loads((place / f"remote/pipeline-runs/{name}/{stage}.json").read_text()) for stage in STAGES]
        (out,) = read_lock(place / f"runs/{name}/validate/lock")["split"]["outs"]
        return [record["state"] for record in records], out["md5"]

    first = states("first")
    assert first[0] == ["computed"] * 4
    assert states("again") == (["restored"] * 4, first[1])
    patients(place, 4)
    changed = states("changed")
    assert changed[0] == ["computed"] * 4
    assert changed[1] != first[1]
    patients(place, 2)
    assert states("back") == (["restored"] * 4, first[1])
    content["prepare"]["max_without_lesion"] = 0.4
    assert states("more") == (["restored", "computed", "restored", "restored"], first[1])
