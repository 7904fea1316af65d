"""Every record names what it was made from, and whoever reads it checks: each link broken once, one line names both."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from hymunet import atomic, cli, evidence, params
from hymunet.data.acquire.synthetic import draw
from hymunet.evaluation.evaluate import evaluate
from hymunet.registry.register import register

SECTION = params.Evaluate(threshold=0.5, temperature=1.0, flips=False, shifts=False, bootstrap=100, seed=0)
MODEL, EVALUATION = Path("artifacts/model"), Path("reports/evaluation")


def evaluated(root):
    paths = ("artifacts/model", "data/prepared", "data/split/split.csv", "reports/training", "reports/evaluation")
    evaluate(*(root / path for path in paths), SECTION)


@pytest.fixture(scope="module")
def whole(finished_training, tmp_path_factory):
    root = Path(shutil.copytree(finished_training, tmp_path_factory.mktemp("evidence") / "project"))
    evaluated(root)
    cv2.imwrite(str(root / "lesion.png"), draw(0, 64, 7)[0])
    return root


@pytest.fixture
def project(whole, tmp_path, monkeypatch):
    root = Path(shutil.copytree(whole, tmp_path / "project"))
    monkeypatch.chdir(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # what is refused is refused before it is asked
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return root


def registered(root):
    register("x", root / MODEL, root / EVALUATION, root / "data/split/split.json", root / "reports/registration", root)


def predicted(root, *options):
    command = ["predict", "lesion.png", "--output", "out", *options]
    if cli.main(command):
        raise ValueError("refused")


def changed(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def other_weights(root):
    path = root / MODEL / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def other_model(root):
    other_weights(root)
    changed(root / MODEL / "model.json", weights_sha256=evidence.sha256(root / MODEL / "model.safetensors"))


def other_split(root):
    """Two images change places: one that trained the model is now tested."""
    path = root / "data/split/split.csv"
    lines = path.read_text().splitlines()
    first, last = lines[1].rsplit(",", 1), lines[-1].rsplit(",", 1)
    lines[1], lines[-1] = f"{first[0]},{last[1]}", f"{last[0]},{first[1]}"
    path.write_text("\n".join(lines) + "\n")
    changed(root / "data/split/split.json", sha256=evidence.sha256(path))


def other_images(root):
    path = root / "data/prepared/images.npy"
    array = np.load(path)
    array[0] ^= 1
    np.save(path, array)


def other_data(root):
    other_images(root)
    changed(root / "data/prepared/prepare.json", sha256=evidence.prepared_sha256(root / "data/prepared"))


def other_scores(root):
    path = root / EVALUATION / "per_image.csv"
    path.write_text(path.read_text().replace("0.", "0.9", 1))


def other_ids(root):
    path = root / "data/split/split.csv"
    path.write_text(path.read_text().replace("CASE_0001", "CASE_0001b"))
    digest = evidence.sha256(path)
    changed(root / MODEL / "model.json", split_sha256=digest)


def described_as(**values):
    return lambda root: changed(root / MODEL / "model.json", **values)


def record_with(**values):
    return lambda root: changed(root / EVALUATION / "metrics.json", **values)


BROKEN = {  # what is broken, who meets it, what both are called
    "weights, evaluate": (other_weights, evaluated, "model.safetensors are not the weights that model.json describes"),
    "weights, predict": (other_weights, predicted, "model.safetensors are not the weights that model.json describes"),
    "weights, register": (other_weights, registered, "model.json: made from weights .*model.safetensors holds"),
    "weights not named": (described_as(weights_sha256=None), evaluated, "not the weights that model.json describes"),
    "model, register": (other_model, registered, "metrics.json: made from weights .*artifacts/model holds"),
    "split, evaluate": (other_split, evaluated, "model.json: made from split .*split.csv holds"),
    "split, register": (other_split, registered, "model.json: made from split .*split.json holds"),
    "split not named": (described_as(split_sha256=None), evaluated, "made from split not named"),
    "images": (other_images, evaluated, "prepare.json: made from prepared images .*data/prepared holds"),
    "data": (other_data, evaluated, "model.json: made from prepared images .*data/prepared holds"),
    "names": (other_ids, evaluated, "split.csv and .*manifest.parquet name other images"),
    "size": (described_as(image_size=48), evaluated, "trained at 48 pixels, .* holds images of 32"),
    "scores": (other_scores, registered, r"metrics.json: made from per_image.csv .*per_image.csv holds"),
    "evaluation's split": (record_with(split_sha256="0" * 64), registered, "made from split 000000000000, but"),
    "evaluation's data": (record_with(data_sha256="0" * 64), registered, "made from prepared images 000000000000, but"),
    "evaluation's model": (record_with(weights_sha256="0" * 64), registered, "made from weights 000000000000, but"),
}


@pytest.mark.parametrize("link", BROKEN)
def test_a_broken_link_is_one_line_that_names_both(project, link, capsys):
    breaks, meets, message = BROKEN[link]
    breaks(project)
    with pytest.raises(ValueError, match=message if meets is not predicted else "refused") as refusal:
        meets(project)
    said = capsys.readouterr().err.splitlines()[-1] if meets is predicted else str(refusal.value)
    assert "\n" not in said
    if meets is predicted:
        assert message in said
    assert not (project / "reports/registration").exists()
    assert not (project / "out").exists()


def test_records_name_what_they_were_made_from(project):
    info, tested = (
        json.loads((project / path).read_text()) for path in (MODEL / "model.json", EVALUATION / "metrics.json")
    )
    assert info["weights_sha256"] == evidence.sha256(project / MODEL / "model.safetensors")
    for key in ("weights_sha256", "data_sha256", "split_sha256"):
        assert tested[key] == info[key]
    assert tested["per_image_sha256"] == evidence.sha256(project / EVALUATION / "per_image.csv")
    assert len(tested["code_sha256"]) == 64


@pytest.mark.parametrize(
    ("breaks", "options", "said"),
    [
        (lambda root: None, (), "exceeds 0.9, averaged over flips (as tested in reports/evaluation)"),
        (other_model, (), "exceeds 0.5 (as trained; no evaluation of this model was named)"),
        (lambda root: shutil.rmtree(root / EVALUATION), (), "exceeds 0.5 (as trained"),
        (lambda root: None, ("--evaluation", "reports/evaluation"), "exceeds 0.9, averaged over flips (as tested in"),
        (other_model, ("--evaluation", "reports/evaluation"), "metrics.json: made from weights"),
        (lambda root: None, ("--evaluation", "none"), "none/metrics.json: no such file"),
    ],
)
def test_predict_decides_by_an_evaluation_of_its_own_model(project, breaks, options, said, capsys):
    changed(project / EVALUATION / "metrics.json", threshold=0.9, flips=True)
    breaks(project)
    code = cli.main(["predict", "lesion.png", "--output", "out", *options])
    captured = capsys.readouterr()
    assert said in (captured.err if code else captured.out)
    assert code == ("exceeds" not in said)


def test_writers_of_one_file_do_not_mix(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    contents = [str(digit) * 200_000 for digit in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: atomic.write(tmp_path / "file", content), contents * 4))
    assert (tmp_path / "file").read_text() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


FOLDERS = {  # what lies in an output folder -> what is said; None: it is written
    "nothing": ({}, None),
    "another's files": ({"photo.jpg": "x"}, None),
    "ours": ({"metrics.json": '{"test_images_sha256": "a"}', "report.html": "x"}, None),
    "a report of somebody's": ({"report.html": "x"}, "holds report.html, not written by this command; name another"),
    "metrics of another program": (
        {"metrics.json": '{"loss": 1}', "report.html": "x"},
        "holds metrics.json, report.html, not written by this command",
    ),
    "metrics that are no JSON": ({"metrics.json": "loss: 1"}, "holds metrics.json, not written"),
    "a list": ({"metrics.json": "[]"}, "holds metrics.json, not written"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_only_an_own_folder_is_written_into_again(case, tmp_path):
    files, message = FOLDERS[case]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    places = (tmp_path, ("metrics.json", "report.html"), "metrics.json", "test_images_sha256")
    if message is None:
        evidence.require_free(*places)
        return
    with pytest.raises(ValueError, match=message):
        evidence.require_free(*places)


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(ValueError, match="x: is a file; name another folder"):
        evidence.require_free(tmp_path / "x", (), "metrics.json", "y")
