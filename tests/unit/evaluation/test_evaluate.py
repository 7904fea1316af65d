"""The evaluation step on a real, small model: numbers recomputed by hand, bytes repeated, bad input refused."""

import csv
import json
import resource
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from components.cli import guarded
from components.evaluate.__main__ import main
from hymunet import models, params
from hymunet.data.feed.dataset import Prepared
from hymunet.evaluation.evaluate import _score, evaluate, hash_of_test_images
from hymunet.evaluation.measure import image_scores
from hymunet.images import normalise
from hymunet.inference import Segmenter

ROOT = Path(__file__).resolve().parents[3]
FILES = ["metrics.json", "panel.png", "per_image.csv", "report.html"]
SECTION = params.Evaluate(threshold=0.5, flips=False, bootstrap=500, seed=0)


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
    for name in ("dice", "iou", "precision", "hd95", "hd95_fraction"):
        assert test[name]["mean"] == pytest.approx(np.mean([float(row[name]) for row in rows]))
        assert test[name]["low"] < test[name]["mean"] < test[name]["high"]
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
    for reference in ("http:", "https:", "<script", "<link", "url("):
        assert reference not in page
    assert page.count("data:image/png;base64,") == page.count("<img ") == 4
    for name, digits in (("dice", 4), ("hd95", 2)):
        for value in metrics["test"][name].values():
            assert f"{value:.{digits}f}" in page


def test_the_threshold_can_come_from_the_validation_images(finished_training, tmp_path):
    section = params.Evaluate(threshold="validation", flips=True, bootstrap=100, seed=0)
    result = run(finished_training, tmp_path, section)
    assert 0.05 <= result["threshold"] <= 0.95
    fixed = run(finished_training, tmp_path, section.model_copy(update={"threshold": result["threshold"]}))
    assert fixed == result


def test_the_hash_of_the_test_images_names_files_not_the_grid():
    manifest = [{"id": id, "sha256_image": f"i{id}", "sha256_mask": f"m{id}", "width": 9} for id in "abc"]
    reference = hash_of_test_images(manifest, ["a", "b"])
    assert hash_of_test_images(manifest[::-1], ["b", "a"]) == reference
    assert hash_of_test_images([{**row, "width": 3} for row in manifest], ["a", "b"]) == reference
    assert hash_of_test_images([{**row, "sha256_mask": "other"} for row in manifest], ["a", "b"]) != reference
    assert hash_of_test_images(manifest, ["a", "c"]) != reference
    with pytest.raises(ValueError, match="knows 1 of 2"):
        hash_of_test_images(manifest, ["a", "d"])


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


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """Probabilities of all images at once were 4 bytes a pixel, the images 3: 33 GB at the allowed sizes."""
    size, peaks = 128, {}
    for count in (64, 512):
        folder = tmp_path / str(count)
        folder.mkdir()
        images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        np.save(folder / "images.npy", images)
        np.save(folder / "masks.npy", np.ones((count, size, size), np.uint8))
        del images
        ids = [f"{index:04}" for index in range(count)]
        tracemalloc.start()
        _score(Segmenter(Bright(), size, 0.9, False, {}), Prepared(folder), np.arange(count), ids)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[512] < peaks[64] + 512 * size * size / 8 * 2, "a packed mask an image at most, and its scores"
