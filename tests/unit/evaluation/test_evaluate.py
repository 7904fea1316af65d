"""The evaluation step on a real, small model: numbers recomputed by hand, bytes repeated, bad input refused."""

import csv
import json
import resource
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from components.cli import guarded
from components.evaluate.__main__ import main
from hymunet import models, params
from hymunet.data.feed.dataset import Prepared
from hymunet.data.prepare.manifest import read_manifest
from hymunet.evaluation.cases import Case, PreparedCases, hash_of_images
from hymunet.evaluation.evaluate import evaluate, prepared_cases
from hymunet.evaluation.measure import image_scores
from hymunet.evaluation.score import probabilities, score
from hymunet.evaluation.threshold import CANDIDATES
from hymunet.images import normalise
from hymunet.inference import Segmenter
from hymunet.metrics import SCORES

ROOT = Path(__file__).resolve().parents[3]
FILES = ["metrics.json", "panel.png", "per_image.csv", "report.html"]
SECTION = params.Evaluate(threshold=0.5, temperature=1.0, flips=False, shifts=False, bootstrap=500, seed=0)


def run(project, output, section=SECTION):
    paths = ("artifacts/model", "data/prepared", "data/split/split.csv", "reports/training")
    return evaluate(*(project / path for path in paths), output, section)


@pytest.fixture(scope="module")
def evaluated(finished_training, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluation")
    run(finished_training, output)
    return output


def read_rows(output):
    with (output / "per_image.csv").open() as file:
        return list(csv.DictReader(file))


def test_scores_are_those_of_the_model_on_the_test_images(finished_training, evaluated):
    prepared = Prepared(finished_training / "data/prepared")
    model, _ = models.load(finished_training / "artifacts/model")
    ids = prepared.ids(finished_training / "data/split/split.csv")
    rows = read_rows(evaluated)
    assert [row["id"] for row in rows] == ids[28:]
    for index, row in enumerate(rows, 28):
        with torch.inference_mode():
            logits = model(normalise(torch.from_numpy(np.array(prepared.images[index : index + 1]))))[0, 0]
        expected = image_scores((logits > 0).numpy(), prepared.masks[index])
        assert float(row["dice"]) == pytest.approx(expected["dice"], abs=0.01)
        assert float(row["hd95"]) == pytest.approx(expected["hd95"], abs=1.0)


def test_metrics_summarise_the_rows(evaluated):
    rows, metrics = read_rows(evaluated), json.loads((evaluated / "metrics.json").read_text())
    test = metrics["test"]
    for name in SCORES:
        for part, prefix in (("test", ""), ("native", "native_")):
            assert metrics[part][name]["mean"] == pytest.approx(np.mean([float(row[prefix + name]) for row in rows]))
            assert metrics[part][name]["low"] <= metrics[part][name]["mean"] <= metrics[part][name]["high"]
    assert test["failed"] == sum(float(row["iou"]) < 0.65 for row in rows) > 0
    counts = {name: sum(int(row[name]) for row in rows) for name in ("true_positive", "false_positive")}
    assert test["pooled"]["precision"] == pytest.approx(counts["true_positive"] / sum(counts.values()))
    assert test["images"] == len(rows) == 12
    assert 0.5 < test["dice"]["mean"] < 0.99, "the small model should have learnt something, and not everything"


def test_a_second_evaluation_writes_the_same_bytes(finished_training, evaluated, tmp_path):
    run(finished_training, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (evaluated / name).read_bytes(), name


def test_the_page_needs_no_network_and_shows_the_figures(evaluated):
    page, metrics = (evaluated / "report.html").read_text(), json.loads((evaluated / "metrics.json").read_text())
    for reference in ("https:", "<link", "url(", "fetch(", "import("):
        assert reference not in page
    assert page.count("http:") == page.count("http://www.w3.org/2000/svg") == 1
    for name, digits in (("dice", 4), ("hd95", 2)):
        for value in metrics["test"][name].values():
            assert f"{value:.{digits}f}" in page


def test_the_threshold_can_come_from_the_validation_images(finished_training, tmp_path):
    section = SECTION.model_copy(update={"threshold": "validation", "temperature": "validation", "flips": True})
    result = run(finished_training, tmp_path, section)
    assert 0.05 <= result["threshold"] <= 0.95
    assert 0.2 <= result["temperature"] <= 10
    settled = {name: result[name] for name in ("threshold", "temperature")}
    assert run(finished_training, tmp_path, section.model_copy(update=settled)) == result


@pytest.mark.parametrize("largest", [False, True])
def test_the_threshold_is_the_best_of_masks_as_they_are_scored(finished_training, tmp_path, largest):
    """On the validation images, scored as a test at every candidate."""
    section = SECTION.model_copy(update={"threshold": "validation", "largest_region": largest})
    chosen = run(finished_training, tmp_path, section)["threshold"]
    segmenter = Segmenter.load(finished_training / "artifacts/model", flips=False, largest_region=largest)
    prepared = Prepared(finished_training / "data/prepared")
    validation = prepared_cases(prepared, finished_training / "data/split/split.csv")["validation"]
    seen = [(found, case.truth) for case, found in probabilities(segmenter, validation, "validation images")]

    def dice(threshold):
        masks = (replace(segmenter, threshold=threshold).mask(found, found.shape) for found, _ in seen)
        return np.mean([image_scores(mask, truth)["dice"] for mask, (_, truth) in zip(masks, seen, strict=True)])

    assert dice(chosen) == pytest.approx(max(map(dice, CANDIDATES)))


def test_the_largest_region_alone_is_scored_where_it_is_asked_for(finished_training, tmp_path):
    every = SECTION.model_copy(update={"threshold": 0.3})  # where this model's masks have several regions
    results = [
        run(finished_training, tmp_path, every.model_copy(update={"largest_region": one})) for one in (False, True)
    ]
    assert [result["largest_region"] for result in results] == [False, True]
    assert "the largest region alone" in (tmp_path / "report.html").read_text()
    wrong = [result["test"]["wrong_objects"]["mean"] for result in results]
    assert wrong[1] <= 1 < wrong[0]


def test_the_hash_of_the_test_images_names_files_not_the_grid():
    facts = [{"id": id, "sha256_image": f"i{id}", "sha256_mask": f"m{id}", "width": 9} for id in "abc"]
    reference = hash_of_images(facts)
    assert hash_of_images(facts[::-1]) == reference
    assert hash_of_images([{**row, "width": 3} for row in facts]) == reference
    assert hash_of_images([{**row, "sha256_mask": "other"} for row in facts]) != reference
    assert hash_of_images(facts[:2]) != reference


def step(project):
    """Runs the program's main; its exit code."""
    paths = {
        "params": ROOT / "profiles/paper.yaml",
        "model": project / "artifacts/model",
        "prepared": project / "data/prepared",
        "split": project / "data/split/split.csv",
        "training": project / "reports/training",
        "output": project / "reports/evaluation",
    }
    arguments = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    return guarded("evaluate", lambda: main(arguments))


def last_line_of_errors(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture
def project(finished_training, tmp_path):
    return Path(shutil.copytree(finished_training, tmp_path / "project"))


def test_the_program_writes_all_files_and_says_where(project, capsys):
    assert step(project) == 0
    said = capsys.readouterr().out
    assert "test Dice 0." in said
    assert str(project / "reports/evaluation/report.html") in said
    assert sorted(path.name for path in (project / "reports/evaluation").iterdir()) == FILES


def test_a_damaged_model_is_named(project, capsys):
    weights = project / "artifacts/model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert step(project) == 1
    assert last_line_of_errors(capsys).startswith(f"evaluate: {project}/artifacts/model: not a readable model")
    assert not (project / "reports/evaluation").exists()


def test_images_of_another_size_than_the_model_saw_are_refused(project):
    for name, channels in (("images", (3,)), ("masks", ())):
        np.save(project / f"data/prepared/{name}.npy", np.zeros((40, 48, 48, *channels), np.uint8))
    with pytest.raises(ValueError, match="trained at 32 pixels.*holds images of 48"):
        run(project, project / "reports/evaluation")
    assert not (project / "reports/evaluation").exists()


def test_a_full_disk_leaves_no_half_written_file(project, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        code = step(project)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 74
    assert "File too large" in last_line_of_errors(capsys)
    assert [path.name for path in (project / "reports/evaluation").iterdir()] == ["per_image.csv"]


class Bright(torch.nn.Module):
    """A model that keeps nothing."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x[:, :1] * self.weight


class Whole:
    """Any number of large images with one lesion, drawn when they are asked for."""

    groups, source = None, "drawn"

    def __init__(self, count, size):
        self.ids, self.size = [f"{index:04}" for index in range(count)], size

    def __getitem__(self, position):
        image = np.random.default_rng(position).integers(0, 256, (self.size, self.size, 3), dtype=np.uint8)
        truth = np.zeros((self.size, self.size), np.uint8)
        truth[10:60, 10:60] = 1
        facts = dict.fromkeys(("width", "height", "dark_corners", "components"), self.size) | {
            "mask_area": truth.mean(),
            "touches_border": False,
            **dict.fromkeys(("sha256_image", "sha256_mask"), self.ids[position]),
        }
        return Case(self.ids[position], image, truth, truth, facts)


def test_memory_does_not_grow_with_the_number_of_images():
    """Probabilities of all images at once were 4 bytes a pixel, the images 3: 33 GB at the allowed sizes."""
    size, peaks = 128, {}
    for count in (64, 512):
        tracemalloc.start()
        score(Segmenter(Bright(), size, 0.9, False, {}), Whole(count, size))
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[512] < peaks[64] + 448 * 6_000, "a row of numbers an image"


def test_scores_do_not_depend_on_the_number_of_workers():
    segmenter = Segmenter(Bright(), 64, 0.6, False, {})
    one, four = (score(segmenter, Whole(24, 64), side=32, workers=workers) for workers in (1, 4))
    assert one.rows == four.rows
    assert one.pictures == four.pictures
    for name in ("whole", "band"):
        assert np.array_equal(getattr(one, name).cells, getattr(four, name).cells)
        assert getattr(one, name).squares == getattr(four, name).squares


def test_the_temperature_goes_on_into_what_decides_as_tested(project, tmp_path):
    """Not where the threshold is one half: a temperature moves no probability across it."""
    section = SECTION.model_copy(update={"temperature": 2.5, "threshold": 0.3})
    run(project, tmp_path, section)
    segmenter = Segmenter.as_tested(project / "artifacts/model", tmp_path)
    assert (segmenter.temperature, segmenter.threshold) == (2.5, 0.3)
    images = Prepared(project / "data/prepared").images[28:30]
    plain = replace(segmenter, temperature=1.0).probabilities(images).astype(np.float64)
    expected = 1 / (1 + np.exp(-np.log(plain / (1 - plain)) / 2.5))
    assert segmenter.probabilities(images) == pytest.approx(expected, abs=1e-5)


def test_a_prepared_folder_without_native_masks_has_scores_on_the_grid_alone(project, tmp_path):
    (project / "data/prepared/native_masks.zip").unlink()
    result = run(project, tmp_path)
    assert result["native"] is None
    assert {row["native_dice"] for row in read_rows(tmp_path)} == {""}
    assert "Masks at native size are not known here" in (tmp_path / "report.html").read_text()


def test_native_scores_are_those_of_the_served_masks(project, evaluated):
    """What `predict` would write for an image of that size, against the mask of that size."""
    prepared = Prepared(project / "data/prepared")
    segmenter = Segmenter.as_tested(project / "artifacts/model", evaluated)
    manifest = read_manifest(project / "data/prepared/manifest.parquet")
    cases = PreparedCases(prepared, np.arange(28, 40), manifest, None, None)
    for index, row in enumerate(read_rows(evaluated)):
        case = cases[index]
        (mask,) = segmenter.masks([cv2.resize(case.image, case.native.shape[::-1], interpolation=cv2.INTER_NEAREST)])
        assert float(row["native_dice"]) == pytest.approx(image_scores(mask, case.native)["dice"], abs=0.03)
