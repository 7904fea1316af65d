"""Two models and two seeds, as a user runs a study: stopped twice, one model crashing, nothing computed twice."""

import csv
import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hymunet import cli
from hymunet.study import locks
from tests.support import small_project, small_study
from tests.support.small_study import Study

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
Inside = Callable[..., tuple[int, str, str]]
EPOCHS = small_study.SMALL["epochs"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    small_project.write_data(folder / "data")
    models = {name: small_study.definition()["models"][name] for name in ("unet", "ward")}
    mini = small_study.write_study(folder / "mini", models=models, tables={})
    return Study(folder, mini, "--data", f"drawn={folder / 'data'}")


def in_the_middle(told: dict[str, list[int]]) -> bool:
    return any(told[name] and 2 <= max(told[name]) < EPOCHS - 2 for name in told)


WHOLE = {f"unet/seed-{seed}" for seed in (0, 1)}
FAILED = {f"ward/seed-{seed}" for seed in (0, 1)}


def test_stopped_twice_and_with_a_model_that_crashes_it_computes_the_rest_once(study: Study) -> None:
    code, error = study.stopped(signal.SIGTERM, in_the_middle)
    assert code == 75, error
    assert "stopping" in error
    code, _ = study.stopped(signal.SIGINT, in_the_middle)
    assert code == 130
    code, out, error = study.run("run", "--workers", 2)
    assert code == 1
    assert study.results().keys() == WHOLE
    for name in FAILED:
        assert re.search(rf"drawn/{name}: failed: exit code 1: RuntimeError: the planted crash \(.*log.txt\)", error)
    assert out.splitlines()[-1] == "2 done, 2 failed"
    epochs = study.epochs()
    assert {name: done for name, done in epochs.items() if name in WHOLE} == {
        name: list(range(1, EPOCHS + 1)) for name in WHOLE
    }, "an epoch that was computed twice, or not at all"
    assert sum("goes on at step" in log for log in study.logs().values()) >= 1, "no cell was stopped in its middle"


def test_then_only_what_failed_is_tried_again_and_mended_it_is_done(study: Study) -> None:
    before, epochs = study.results(), study.epochs()
    small_study.install_model(study.packages, small_study.WORKS)
    code, out, error = study.run("run", "--workers", 2)
    assert code == 0, error
    assert "to compute: 2" in out
    assert out.splitlines()[-1] == "4 done"
    after = study.results()
    assert after.keys() == WHOLE | FAILED
    assert {name: after[name] for name in WHOLE} == before
    assert {name: done for name, done in study.epochs().items() if name in WHOLE} == {n: epochs[n] for n in WHOLE}


@pytest.mark.slow
def test_a_cell_that_was_stopped_killed_and_closed_has_the_bytes_of_one_that_was_not(study: Study) -> None:
    """And a runner that is killed takes its cells along; tests that were closed are opened on the same weights."""
    name = next(name for name, log in study.logs().items() if "goes on at step" in log)
    published, work = study.study / "results/drawn" / name, study.work / "cells/drawn" / name
    kept = {file.name: file.read_bytes() for file in published.iterdir()}
    shutil.rmtree(published)
    shutil.rmtree(work)
    options = ("--only", f"drawn/{name}")
    process = study.start("run", *options)
    while not locks.taken(work):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while locks.taken(work):
        assert time.monotonic() < deadline, "the cell outlives its runner"
        time.sleep(0.05)
    code, out, error = study.run("run", *options, "--closed")
    assert code == 0, error
    assert out.splitlines()[-1] == "1 trained"
    assert sorted(path.name for path in published.iterdir()) == ["cell.json", "history.json"]
    code, out, error = study.run("run", *options)
    assert code == 0, error
    assert study.epochs()[name] == list(range(1, EPOCHS + 1)), "trained again"
    for file in ("per_image.csv", "metrics.json", "history.json"):
        assert (published / file).read_bytes() == kept[file], file


@pytest.mark.slow
def test_a_study_of_validation_images_scores_those_and_leaves_the_test_images_alone(study: Study) -> None:
    """By weights that are there, too; a recipe is chosen so."""
    name = "unet/seed-0"
    file, published = study.study / "study.yaml", study.study / "results/drawn" / name
    before, kept = file.read_text(), {path.name: path.read_bytes() for path in published.iterdir()}
    file.write_text(json.dumps({**json.loads(before), "scored": "validation"}))
    try:
        code, out, error = study.run("run", "--only", f"drawn/{name}")
        assert code == 0, error
        assert out.splitlines()[-1] == "1 done"
        assert study.epochs()[name] == list(range(1, EPOCHS + 1)), "trained again"
        with (study.folder / "data/split/split.csv").open() as rows:
            validation = sorted(row["id"] for row in csv.DictReader(rows) if row["split"] == "validation")
        with (published / "per_image.csv").open() as rows:
            assert sorted(row["id"] for row in csv.DictReader(rows)) == validation
    finally:
        file.write_text(before)
        for path, content in kept.items():
            (published / path).write_bytes(content)


@pytest.fixture
def inside(study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Inside:
    """The command in this process."""
    monkeypatch.syspath_prepend(str(study.packages))

    def run(verb: str, *options: object) -> tuple[int, str, str]:
        code = cli.main(small_study.command(verb, study.study, *study.options, *options)[3:])
        return code, *capsys.readouterr()

    return run


def test_status_says_scores_by_seed_and_why_a_result_does_not_hold(study: Study, inside: Inside) -> None:
    code, out, _ = inside("status")
    lines = out.splitlines()
    assert (code, lines[0].split(), lines[-1]) == (0, ["set", "model", "seed", "0", "seed", "1"], "4 done")
    dice = [json.loads((study.study / f"results/drawn/unet/seed-{n}/metrics.json").read_text()) for n in (0, 1)]
    assert lines[1].split() == ["drawn", "unet", *(f"{one['test']['dice']['mean']:.4f}" for one in dice)]
    table = study.study / "results/drawn/unet/seed-0/per_image.csv"
    before = table.read_bytes()
    table.write_bytes(before[:-1])
    try:
        code, out, _ = inside("status")
    finally:
        table.write_bytes(before)
    assert "3 done, 1 damaged" in out
    assert "cell.json: made with a per_image.csv" in out


def test_results_of_another_machine_are_taken_in_checked(study: Study, inside: Inside, tmp_path: Path) -> None:
    elsewhere = tmp_path / "brought"
    shutil.copytree(study.study / "results", elsewhere)
    shutil.rmtree(study.study / "results/drawn/unet/seed-1")
    code, out, error = inside("import", elsewhere)
    assert code == 0, error
    assert out.count("there already") == 3
    assert "drawn/unet/seed-1: taken in" in out
    table = elsewhere / "drawn/unet/seed-1/per_image.csv"
    table.write_text(table.read_text().replace("0.", "0.9", 1))
    code, _, error = inside("import", elsewhere)
    assert code == 1
    assert "made with a per_image.csv" in error
    assert inside("status")[1].splitlines()[-1] == "4 done"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["run", "--only", "drawn/vnet"], "--only drawn/vnet: fits no cell; they are named as drawn/unet/seed-0"),
        (["run", "--workers", "0"], "--workers 0 must be at least 1"),
        (["run", "-S", "train.epochs=1"], "-S train.epochs=1: a study's parameters are those of its file"),
        (["run", "--data", "other=x"], "--data other=…: no such set; there are: drawn"),
        (["run", "--data", "drawn=nowhere"], "nowhere: given for drawn, and holds no prepared/"),
        (["import", "nowhere"], "nowhere: no cell.json in it"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(inside: Inside, options: list[str], message: str) -> None:
    code, _, error = inside(*options)
    assert code == 1
    assert message in error
    assert error.count("\n") == 1
