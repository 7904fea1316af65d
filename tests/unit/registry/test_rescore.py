"""The champion scored again on the challenger's test images: the evaluation's numbers, at any size, running no code."""

import json
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hymunet import models, params
from hymunet.data.acquire.download import download
from hymunet.data.acquire.sections import Data
from hymunet.data.divide.divide import divide
from hymunet.data.prepare.prepare import prepare
from hymunet.evaluation.evaluate import evaluate
from hymunet.evidence import prepared_sha256, sha256
from hymunet.registry import cost, evidence, grounds
from hymunet.registry.client import CHALLENGER, CHAMPION
from hymunet.registry.evidence import Evidence
from hymunet.registry.promote import compare
from hymunet.registry.rescore import rescored
from tests.support.scored_versions import POLICY, TAGS

ROOT = Path(__file__).resolve().parents[3]
SECTION = params.Evaluate(threshold="validation", temperature=1.3, flips=False, shifts=False, bootstrap=100, seed=0)
LENIENT = POLICY.model_copy(update={"min_dice": 0.0, "max_missed": 1.0, "max_ece": 1.0})


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """What the download step writes: 28 drawn images of 96 pixels."""
    folder = tmp_path_factory.mktemp("raw")
    section = params.load(ROOT / "profiles/paper.yaml", "data").data.model_dump()
    section["source"], section["synthetic"] = "synthetic", {"images": 28, "size": 96, "seed": 3}
    download(Data.model_validate(section), folder)
    return folder


def made(raw: Path, folder: Path, size: int, seed: int) -> Path:
    """A version's folder: a U-Net of `size` pixels on the split of this seed, evaluated by the pipeline's own code."""
    import torch

    data, split, model = folder / "prepared", folder / "split", folder / "version/artifacts/model"
    prepare(raw, data, size, "stop")
    divide(params.Split(protocol="random", fractions=[0.05, 0.05, 0.9], seed=seed), data, split)
    torch.manual_seed(seed)
    section = {"name": "unet", "size": "small"}
    hashes = {"data_sha256": prepared_sha256(data), "split_sha256": sha256(split / "split.csv")}
    info = {"model": section, "image_size": size, "threshold": 0.5, **hashes}
    models.save(models.build(models.section(section), size), info, model)
    evaluate(model, data, split / "split.csv", folder, folder / "version/evaluation", SECTION)
    verdict = folder / "verdict.json"
    verdict.write_text(json.dumps({"passed": True, **hashes}))
    for name, content in grounds.collect(split / "split.csv", data, verdict).items():
        place = folder / "version" / grounds.FOLDER / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
    return folder / "version"


@pytest.fixture(scope="module")
def versions(raw, tmp_path_factory):
    """The challenger at 32 pixels on one split, the champion at 64 on another, and the champion on the challenger's."""
    home = tmp_path_factory.mktemp("versions")
    folders = [made(raw, home / name, *how) for name, how in {"1": (64, 1), "2": (32, 2), "3": (64, 2)}.items()]
    return {
        number: (evidence.read(number, TAGS, folder), folder) for number, folder in zip("123", folders, strict=True)
    }


def test_the_champion_scores_what_an_evaluation_of_its_size_would_have_given(raw, versions):
    """Version 3 is evaluated by the pipeline; another version with its weights is scored again: the same numbers."""
    (third, folder), (challenger, _) = versions["3"], versions["2"]
    found = rescored(replace(third, images=versions["1"][0].images), folder, challenger, raw, None)
    assert found.rescored
    assert found.metrics["test_images_sha256"] == challenger.test_images
    assert found.metrics["temperature"] == 1.3, "it decides as it was tested"
    expected = third.scores.of(found.scores.ids)
    np.testing.assert_array_equal(found.scores.native, expected.native)
    np.testing.assert_array_equal(found.scores.dice, expected.dice)
    np.testing.assert_array_equal(found.scores.truth, expected.truth)
    assert 0 < found.scores.native.mean() < 1


def test_images_that_are_others_or_not_there_are_refused(raw, versions, tmp_path):
    champion, folder = versions["1"]
    challenger = versions["2"][0]
    with pytest.raises(ValueError, match=r"source\.json: missing or unreadable; name the folder that the download"):
        rescored(champion, folder, challenger, tmp_path, None)
    one = next(iter(challenger.tested))
    images = {**challenger.images, one: replace(challenger.images[one], sha256="0" * 64)}
    with pytest.raises(ValueError, match=f"{one} is another file than the one that the challenger was tested on") as no:
        rescored(champion, folder, replace(challenger, images=images), raw, None)
    assert "; name the folder that holds them as they were with --rescore:" in str(no.value), "an option that there is"
    assert "--on-bad-pair" not in str(no.value)
    with zipfile.ZipFile(raw / "synthetic.zip") as whole, zipfile.ZipFile(tmp_path / "synthetic.zip", "w") as part:
        for name in whole.namelist():
            if one not in name:
                part.writestr(name, whole.read(name))
    (tmp_path / "source.json").write_bytes((raw / "source.json").read_bytes())
    with pytest.raises(ValueError, match=f"1 of .* test images are not there, as {one}"):
        rescored(champion, folder, challenger, tmp_path, None)
    with pytest.raises(ValueError, match="does not hold the hashes of its test images"):
        rescored(champion, folder, Evidence("2"), raw, None)


def test_versions_of_other_test_images_are_compared_and_no_code_of_theirs_is_run(
    registry, raw, versions, tmp_path, monkeypatch
):
    monkeypatch.setattr(cost, "SERIES", 1)
    monkeypatch.setattr(cost, "ROUNDS", 2)
    registry.create_registered_model("rescored")
    for number in "12":
        read, folder = versions[number]
        run = registry.create_run("0").info
        trap = tmp_path / number / "code/hymunet/__init__.py"
        trap.parent.mkdir(parents=True)
        trap.write_text("raise SystemExit('code of the version was run')")
        for place in (folder, tmp_path / number):
            registry.log_artifacts(run.run_id, str(place), "model")
        tags = {**TAGS, "hymunet.test_images_sha256": read.test_images}
        registry.create_model_version("rescored", f"{run.artifact_uri}/model", run.run_id, tags=tags)
    registry.set_registered_model_alias("rescored", CHAMPION, "1")
    registry.set_registered_model_alias("rescored", CHALLENGER, "2")

    refused = compare("rescored", LENIENT)
    assert refused.difference is None
    assert "--rescore" in next(gate.why for gate in refused.gates if gate.name == "same test images")

    costly = LENIENT.model_copy(update={"max_slower": 100.0, "max_larger": 100.0})
    decision = compare("rescored", costly, rescore=partial(rescored, raw=raw, masks_on=None))
    gates = {gate.name: gate for gate in decision.gates}
    seen = {image.sha256 for image in versions["1"][0].images.values() if image.part != "test"}
    challenger = versions["2"][0]
    fair = [id for id in challenger.scores.ids if challenger.images[id].sha256 not in seen]
    assert 0 < len(fair) < len(challenger.scores.ids)
    left = len(challenger.scores.ids) - len(fair)
    assert gates["same test images"].figure == (
        f"{len(fair)} images at their own size ({left} more left out: the champion was trained with them or with "
        "images that look like them), the champion scored again"
    )
    assert gates["latency"].passed
    assert gates["memory"].passed
    assert "MiB, champion" in gates["memory"].figure
