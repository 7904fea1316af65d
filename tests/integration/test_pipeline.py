"""The whole pipeline by `dvc repro` on a handful of drawn images, and what each step says to bad input."""

import importlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing, suppress
from pathlib import Path

import pytest

from components import cli
from tests.support import alone
from tests.support.checkout import ENVIRONMENT, TINY, make_checkout, run, stages_run, versions, write_params

STEPS = ("download", "prepare", "split", "validate", "train", "evaluate", "register")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Whose profile of the demo is as small as its params.yaml."""
    folder = make_checkout(tmp_path_factory.mktemp("checkout"))
    (folder / "profiles/demo.yaml").write_text(json.dumps(TINY))  # JSON is YAML
    subprocess.run(["git", "commit", "-qam", "a small demo"], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The file with what the pipeline asked of the internet, where that can be known."""
    return tmp_path_factory.mktemp("internet") / "asked"


@pytest.fixture(scope="module")
def finished(checkout, asked):
    """By a user who has set nothing, on a machine without internet where this one can play it."""
    if alone.possible():
        environment = alone.environment(asked.parent, str(Path(sys.executable).parent)) | {"PYTHONPATH": str(checkout)}
        command = alone.command(asked, "dvc", "repro")
        result = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=280)
    else:
        result = run(checkout, "dvc", "repro")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return checkout


@pytest.mark.skipif(not alone.possible(), reason="no network namespaces for this user, or no `ip` and `unshare`")
def test_nothing_is_asked_of_the_internet(finished, asked):
    """tests/integration/test_offline.py says it of every command, and that what asks is seen."""
    assert asked.read_text().splitlines() == []


def test_every_step_leaves_what_it_promises(finished):
    for name in (
        "data/prepared/images.npy",
        "data/split/split.csv",
        "reports/validation/report.html",
        "artifacts/model/model.safetensors",
        "reports/training/curves.png",
        "reports/evaluation/panel.png",
        "reports/evaluation/per_image.csv",
        "reports/evaluation/report.html",
        "reports/registration/registration.json",
    ):
        assert (finished / name).stat().st_size > 0, name
    metrics = json.loads((finished / "reports/evaluation/metrics.json").read_text())
    assert 0 <= metrics["test"]["dice"]["mean"] <= 1
    assert metrics["test"]["images"] == 4


def test_a_second_run_asks_the_registry_and_changes_nothing(finished):
    record, lock = finished / "reports/registration/registration.json", (finished / "dvc.lock").read_bytes()
    before = record.read_bytes()
    result = run(finished, "dvc", "repro")
    assert result.returncode == 0, result.stderr
    assert stages_run(result) == ["register"]
    assert "version 1 is the challenger" in result.stdout
    assert (record.read_bytes(), (finished / "dvc.lock").read_bytes()) == (before, lock)
    assert versions(finished) == ["1"]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_the_demo_of_a_clone_takes_what_is_cached_and_leaves_the_clone_clean(finished, tmp_path):
    """And registers it with the commit. tests/integration/test_demo.py computes all of it."""
    clone, settings = tmp_path / "clone", tmp_path / "dvc"
    subprocess.run(["git", "clone", "-q", str(finished), str(clone)], check=True)
    for library in (finished / "hymunet").rglob("*.so"):
        shutil.copy(library, clone / library.relative_to(finished))
    settings.mkdir()
    (settings / "config").write_text(f"[cache]\n    dir = {finished / '.dvc/cache'}\n")
    venv = Path(sys.prefix)  # -o: the installation is this test's own; its sources are found in the folder of the demo
    command = ["make", "demo", f"VENV={venv}", "-o", f"{venv}/.all"]
    environment = ENVIRONMENT | {"PYTHONPATH": "", "DVC_GLOBAL_CONFIG_DIR": str(settings)}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert stages_run(done) == ["register"]
    assert "test Dice" in done.stdout
    assert subprocess.check_output(["git", "status", "--porcelain"], cwd=clone, text=True) == ""
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=clone, text=True).strip()
    query = "select value from model_version_tags where key = 'hymunet.git_commit'"
    with closing(sqlite3.connect(clone / "build/demo/mlflow.db")) as registry:
        assert registry.execute(query).fetchall() == [(head,)]


def emptied(folder: Path, monkeypatch) -> Path:
    (folder / "mlflow.db").unlink()
    return folder


def elsewhere(folder: Path, monkeypatch) -> Path:
    (folder / "other").mkdir()
    monkeypatch.setitem(ENVIRONMENT, "MLFLOW_TRACKING_URI", "sqlite:///other/mlflow.db")
    return folder


def cloned(folder: Path, monkeypatch) -> Path:
    clone = folder.with_name("clone")
    subprocess.run(["git", "add", "dvc.lock"], cwd=folder, check=True)
    subprocess.run(["git", "commit", "-q", "-m", "run"], cwd=folder, check=True)
    subprocess.run(["git", "clone", "-q", str(folder), str(clone)], check=True)
    for library in (folder / "hymunet/ops").glob("*.so"):
        shutil.copy(library, clone / "hymunet/ops")
    for command in (
        ["dvc", "remote", "add", "--local", "-q", "-d", "here", str(folder.with_name("remote"))],
        ["dvc", "push", "-q"],
    ):
        assert run(folder, *command).returncode == 0
    assert run(clone, *["dvc", "remote", "add", "--local", "-q", "-d", "here", str(folder.with_name("remote"))])
    assert run(clone, "dvc", "pull", "-q").returncode == 0
    return clone


@pytest.mark.slow
@pytest.mark.parametrize("happens", [emptied, elsewhere, cloned])
def test_another_registry_or_an_emptied_one_gets_the_model(finished, tmp_path, monkeypatch, happens):
    project = happens(Path(shutil.copytree(finished, tmp_path / "project", symlinks=True)), monkeypatch)
    result = run(project, "dvc", "repro")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert stages_run(result) == ["register"]
    assert "tiny version 1 is the challenger in sqlite:///" in result.stdout
    assert versions(project / "other" if happens is elsewhere else project) == ["1"]


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ("validate.min_images=11", ["validate", "register"]),  # the verdict stays as it was
        pytest.param("train.epochs=2", ["train", "evaluate", "register"], marks=pytest.mark.slow),
    ],
)
def test_an_experiment_runs_the_stages_that_read_its_parameter(finished, change, stages):
    result = run(finished, "dvc", "exp", "run", "-S", change)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert stages_run(result) == stages
    epochs = len(json.loads((finished / "reports/training/history.json").read_text()))
    assert epochs == 1 + ("train" in stages)


@pytest.mark.parametrize("step", STEPS)
def test_a_typo_stops_every_program(tmp_path, step):
    write_params(tmp_path / "params.yaml", {"train": {"epoch": 3}})
    refused(
        run(tmp_path, sys.executable, "-m", f"components.{step}"),
        step,
        "unknown key train.epoch = 3; did you mean epochs?",
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml"]


@pytest.mark.parametrize(
    ("section", "key", "value"), [("train", "epochs", 0), ("prepare", "image_size", 100), ("train", "batch_size", "x")]
)
def test_an_impossible_value_is_refused_at_start(tmp_path, section, key, value):
    write_params(tmp_path / "params.yaml", {section: {key: value}})
    refused(run(tmp_path, sys.executable, "-m", "components.train"), "train", f"{section}.{key} = {value!r}")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("missing mask", "synthetic/images/case_00003.png: no mask"),
        ("not an image", "synthetic/images/case_00003.png: image is not an image that can be decoded"),
        ("empty", "no image of source synthetic"),
    ],
)
def test_bad_pairs_are_named_and_nothing_is_left_half_written(finished, tmp_path, damage, expected):
    raw = tmp_path / "raw"
    shutil.copytree(finished / "data/raw", raw)
    with (
        zipfile.ZipFile(finished / "data/raw/synthetic.zip") as source,
        zipfile.ZipFile(raw / "synthetic.zip", "w") as copy,
    ):
        for name in source.namelist():
            if damage == "empty" or (damage == "missing mask" and name == "synthetic/masks/case_00003.png"):
                continue
            replaced = damage == "not an image" and name == "synthetic/images/case_00003.png"
            copy.writestr(name, b"no image" if replaced else source.read(name))
    write_params(tmp_path / "params.yaml", TINY)
    result = run(tmp_path, sys.executable, "-m", "components.prepare", "--raw", "raw", "--output", "prepared")
    refused(result, "prepare", expected)
    assert not any((tmp_path / "prepared").glob("*"))


WRITES = {  # step -> what it reads of a finished project, and the options of what it writes
    "download": ({}, ("--output",)),
    "prepare": ({"--raw": "data/raw"}, ("--output",)),
    "split": ({"--prepared": "data/prepared"}, ("--output",)),
    "validate": ({"--prepared": "data/prepared", "--split": "data/split"}, ("--output",)),
    "train": (
        {
            "--prepared": "data/prepared",
            "--split": "data/split/split.csv",
            "--verdict": "reports/validation/verdict.json",
        },
        ("--model", "--reports"),
    ),
    "evaluate": (
        {"--prepared": "data/prepared", "--split": "data/split/split.csv", "--model": "artifacts/model"},
        ("--output",),
    ),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="a full disk is a small tmpfs, which needs root to mount")
@pytest.mark.parametrize("step", WRITES)
def test_a_full_disk_is_one_line_that_names_it_and_leaves_no_output(finished, tmp_path, monkeypatch, capfd, step):
    """In this process, since what the steps import takes seconds."""
    reads, written = WRITES[step]
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(full)], capture_output=True)
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here, so no disk can be made full")
    try:
        with suppress(OSError), (full / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
        write_params(tmp_path / "params.yaml", TINY)
        places = {option: str(full / "there" / option.strip("-")) for option in written}
        options = {option: str(finished / place) for option, place in reads.items()} | places
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HYMUNET_TRACKING", "off")
        program = importlib.import_module(f"components.{step}.__main__")
        code = cli.guarded(step, lambda: program.main([*sum(options.items(), ())]))
        error = capfd.readouterr().err
        last = error.splitlines()[-1]
        assert code in (1, 74), error
        assert last.startswith(f"{step}: "), error
        assert str(full / "there") in last
        assert "No space left on device" in last or "is the disk full?" in last
        assert "Traceback" not in error or step == "validate"  # Great Expectations logs its own
        left = [path for path in (full / "there").rglob("*") if path.is_file() and path.suffix != ".lock"]
        assert not [path for path in left if "data_docs" not in path.parts]
    finally:
        subprocess.run(["umount", "--lazy", str(full)], check=True)


def refused(result: subprocess.CompletedProcess, step: str, expected: str) -> None:
    """Exit code not zero and one line on standard error that says what and where (a progress bar apart)."""
    assert result.returncode != 0
    assert "Traceback" not in result.stderr, result.stderr[-2000:]
    lines = [line for line in result.stderr.splitlines() if line.startswith(f"{step}: ")]
    assert len(lines) == 1, result.stderr[-2000:]
    assert expected in lines[0]
