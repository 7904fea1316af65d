"""Batch prediction compiled: an alias is resolved once, and what is asked for are parameters of the run."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

pytest.importorskip("kfp", reason="needs the extra `pipelines`")

from pipelines import __main__ as command
from pipelines.drift_page import page
from tests.unit.pipelines.test_compile import DIGEST, GPU, cluster


def compiled(folder: Path, *options: str) -> dict:
    with (folder / "settings.yaml").open("w") as file:
        YAML().dump(cluster(accelerator=GPU, volumes=[{"claim": "scans", "path": "/mnt/scans"}]).model_dump(), file)
    where = ["--settings", str(folder / "settings.yaml"), "--output", str(folder / "p.yaml")]
    assert command.main(["compile", "--pipeline", "predict", *where, *options]) == 0
    return next(YAML(typ="safe", pure=True).load_all(folder / "p.yaml"))


def test_the_images_are_segmented_by_the_version_that_was_resolved(tmp_path: Path) -> None:
    pipeline = compiled(tmp_path, "--source", "s3://in/scans", "--target", "s3://out/masks", "--reference", "run-7")
    assert sorted(pipeline["root"]["dag"]["tasks"]) == ["exit-handler-1", "finish"]
    tasks = pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    given = tasks["predict-images"]["inputs"]["parameters"]
    assert given["model"]["taskOutputParameter"] == {"outputParameterKey": "version", "producerTask": "resolve"}
    defaults = {name: one["defaultValue"] for name, one in pipeline["root"]["inputDefinitions"]["parameters"].items()}
    assert defaults == {
        "model": "models:/hymunet@champion",
        "source": "s3://in/scans",
        "target": "s3://out/masks",
        "save": "mask",
        "reference": "run-7",
    }
    container = pipeline["deploymentSpec"]["executors"]["exec-predict-images"]["container"]
    assert container["image"] == f"hub/cuda@{DIGEST}"
    assert container["resources"]["accelerator"]["resourceCount"] == "1"
    assert tasks["predict-images"]["retryPolicy"]["maxRetryCount"] == 10
    last = tasks["conclude"]
    assert last["inputs"]["artifacts"]["lock_before"]["taskOutputArtifact"]["producerTask"] == "predict-images"
    assert "maxRetryCount" not in last.get("retryPolicy", {}), "what failed for good is not tried again"


OPTIONS = [
    (["--save", "mask,coco"], "coco is one file over all images; write contours"),
    (["--save", ""], "'' is none of mask"),
    *(
        (["--model", one], "expected models:/NAME@ALIAS")
        for one in ("artifacts/model", "models:/", "models:/a", "models:/a/x")
    ),
]
# The last three: a pod's own disk, what lies beside a volume, and what leads out of one.
NOWHERE = ["s3://", "s3:///x", "gs://b/o", "http://h/o", "o", "/tmp/o", "/mnt/scans2", "/mnt/scans/../o"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "s3://b/o"], "--source: name it for --pipeline predict"),
        (["--source", "s3://b/i"], "--target: name it for --pipeline predict"),
        (["--source", "s3://b/i", "--target", "s3://b/o", "--save", "masks"], "'masks' is none of mask"),
        *((["--source", "s3://b/i", "--target", "s3://b/o", *options], said) for options, said in OPTIONS),
        *((["--source", one, "--target", "s3://b/o"], f"--source {one}: no place that pods share") for one in NOWHERE),
        *((["--source", "s3://b/i", "--target", one], f"--target {one}: no place that pods share") for one in NOWHERE),
        (["--source", "s3://b/i", "--target", "s3://b/i/"], "--target s3://b/i/ is --source, too: name another place"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(options: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        compiled(tmp_path, *options)


@pytest.mark.parametrize(
    ("source", "target"), [("/mnt/scans", "/mnt/scans/masks"), ("/mnt/scans/in", "s3://b"), ("s3://b", "s3://b/masks")]
)
def test_a_volume_is_a_place_as_a_bucket_is(source: str, target: str, tmp_path: Path) -> None:
    compiled(tmp_path, "--source", source, "--target", target)


def test_the_page_says_what_moved_and_escapes_what_came_with_the_data() -> None:
    measure = {"psi": 0.4, "beyond": 0.25, "median": 2.0, "reference_median": 1.0}
    drift = {"images": 8, "reference_images": 90, "out_of_distribution": 0.25, "measures": {"brightness": measure}}
    told = {"model": "models:/x/1", "images": 8, "confidence": None, "problems": ["<script>.jpg"], "drift": drift}
    text = page(told)
    assert "<script>" not in text
    assert "brightness<td>2<td>1<td class=bad>0.400, large shift<td>25.0%" in text
    assert "Not compared" in page({**told, "drift": None})
