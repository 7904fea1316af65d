"""What `hymunet clean` lists and removes, and what it leaves alone."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hymunet import clean, cli, params
from hymunet.training import device

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("HYMUNET_CHECKPOINTS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HYMUNET_COMPILE_CACHE", str(tmp_path / "compiled"))
    return tmp_path


def write(path, content=b"x" * 1000):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def checkpoint(folder, done, epochs, damage=False):
    manifest = {"state": {"history": [{}] * done}, "configuration": {"train": {"epochs": epochs}}}
    write(folder / "000000009.safetensors")
    write(folder / "000000009.json", b"{" if damage else {"sha256": "", "manifest": json.dumps(manifest)})


def model(path, key):
    write(path, {"run_key": key, "weights_sha256": "w"})


def twice(root, content=b"z" * 1000, link=False):
    write(root / "data/raw/a.zip", b"z" * 1000)
    (root / "data/archives").mkdir()
    if link:
        os.link(root / "data/raw/a.zip", root / "data/archives/a.zip")
    else:
        write(root / "data/archives/a.zip", content)


def finished(root, place):
    checkpoint(root / "checkpoints/key", 3, 3)
    if place:
        model(root / place, "key")


STATES = {  # what lies there -> the path that goes, or None; what is said
    "finished, its model here": (
        lambda root: finished(root, "artifacts/model/model.json"),
        "checkpoints/key",
        "checkpoints of a finished training, whose model is kept",
    ),
    "finished, its model in DVC's cache": (
        lambda root: finished(root, ".dvc/cache/files/md5/ab/cdef"),
        "checkpoints/key",
        "whose model is kept",
    ),
    "finished, its model nowhere": (
        lambda root: finished(root, None),
        None,
        "stays  checkpoints/key: finished, and its",
    ),
    "finished, and another's model": (
        lambda root: finished(root, None) or model(root / "artifacts/model/model.json", "other"),
        None,
        "stays  checkpoints/key",
    ),
    "not finished": (
        lambda root: checkpoint(root / "checkpoints/key", 2, 3) or model(root / "artifacts/model/model.json", "key"),
        None,
        "2 of 3 epochs; goes on from here",
    ),
    "damaged": (lambda root: checkpoint(root / "checkpoints/key", 3, 3, damage=True), None, "cannot be read"),
    "a folder of a user's": (lambda root: write(root / "checkpoints/mine/weights.pt"), None, "0.0 MB would be freed"),
    "an archive twice": (twice, "data/archives/a.zip", "the same as data/raw/a.zip"),
    "an archive with two names": (lambda root: twice(root, link=True), None, "0.0 MB"),
    "another archive of that name": (lambda root: twice(root, b"y" * 1000), None, "0.0 MB"),
    "compiled code": (
        lambda root: write(root / "compiled/triton/x"),
        "compiled/triton",
        "made again when it is needed",
    ),
    "a database put aside": (
        lambda root: write(root / "mlflow.db.before-move") or write(root / "mlflow.db"),
        "mlflow.db.before-move",
        "put aside of MLflow's database",
    ),
    "a user's own": (
        lambda root: [
            write(root / name) for name in ("data/mine/images/1.png", "mlflow.db", "notes/a.zip", "journal/k/j")
        ],
        None,
        "0.0 MB would be freed",
    ),
    "nothing": (lambda root: None, None, "0.0 MB would be freed; to remove what is listed: hymunet clean --yes"),
}


def files(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("state", STATES)
def test_what_can_be_had_again_is_listed_and_goes_when_asked_and_nothing_else_does(state, project, capsys):
    prepare, going, words = STATES[state]
    prepare(project)
    before = files(project)
    assert cli.main(["clean"]) == 0
    said = capsys.readouterr().out
    assert words in said
    assert files(project) == before, "a list removes nothing"
    assert cli.main(["clean", "--yes"]) == 0
    assert before - files(project) == (
        {name for name in before if f"{name}/".startswith(f"{going}/")} if going else set()
    )
    assert going is None or "0.0 MB freed" in capsys.readouterr().out, "of a kilobyte"


def test_checkpoints_in_a_store_are_not_looked_at(project, monkeypatch, capsys):
    monkeypatch.setenv("HYMUNET_CHECKPOINTS", "s3://bucket/runs")
    assert cli.main(["clean", "--yes"]) == 0
    assert "not looked at: s3://bucket/runs" in capsys.readouterr().out


def test_make_clean_removes_the_pipelines_outputs_and_what_tools_leave_and_nothing_else():
    """It leaves checkpoints and registries to `hymunet clean`, and users' folders to users."""
    rule = re.search(r"^clean:.*\n((?:\t.*\n?)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    removed = set(rule.replace("\\\n", " ").split()) - {"rm", "-rf"}
    stages = params.read_yaml(ROOT / "dvc.yaml")["stages"].values()
    outs = {out if isinstance(out, str) else next(iter(out)) for stage in stages for out in stage["outs"]}
    caches = {".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", "*.egg-info"}
    caches |= {f"build/{name}" for name in ("demo", "kubeflow", "pipeline.yaml", "site", "coverage")}  # ours alone
    caches |= {"build/lib", "build/temp.*", "build/bdist.*"}
    assert removed == outs | caches


def test_what_cannot_be_removed_is_named_with_its_place(project, monkeypatch, capsys):
    finished(project, "artifacts/model/model.json")

    def refuses(path):
        raise PermissionError(13, "Permission denied", "000000009.json")  # as of a file that is reached by its folder

    monkeypatch.setattr("hymunet.clean.shutil.rmtree", refuses)
    assert cli.main(["clean", "--yes"]) == 1
    assert "hymunet clean: checkpoints/key: Permission denied; change its permissions" in capsys.readouterr().err


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"XDG_CACHE_HOME": "cache"},
        {"XDG_CACHE_HOME": ""},
        {"XDG_CACHE_HOME": "~/elsewhere"},
        {"HYMUNET_COMPILE_CACHE": ""},
        {"HYMUNET_COMPILE_CACHE": "kept", "XDG_CACHE_HOME": "cache"},
        {"HYMUNET_COMPILE_CACHE": "~/kept"},
        {"HYMUNET_COMPILE_CACHE": "s3://bucket/code"},
        {"HYMUNET_COMPILE_CACHE": "s3://bucket/code", "XDG_CACHE_HOME": "cache"},
    ],
    ids=str,
)
def test_compiled_code_is_looked_for_where_a_training_puts_it(environment, monkeypatch):
    for name in ("XDG_CACHE_HOME", "HYMUNET_COMPILE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert clean.compiled_code() == device.compiled_code()


def test_neither_torch_nor_mlflow_is_imported_to_look(project):
    finished(project, "artifacts/model/model.json")
    look = "import sys; from hymunet import cli; code = cli.main(['clean']); print(*sys.modules); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", look], cwd=project, capture_output=True, text=True, check=True)
    assert "checkpoints of a finished training" in done.stdout
    assert not {"torch", "mlflow"} & set(done.stdout.split())
