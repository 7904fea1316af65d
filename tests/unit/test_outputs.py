"""Where results cannot go is told in one line with a remedy, and before the work; nobody else's files are removed."""

import errno
import importlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from components import cli as step_cli
from hymunet import atomic, cli
from hymunet.places import in_words, named, require_folder
from tests.support import closed
from tests.support.training_data import ROOT

COMMANDS = {  # with an output below a file
    "predict": ["predict", "x.png", "--output", "file/out"],
    "evaluate": ["evaluate", "--folder", ".", "--output", "file/out"],
    "compare": ["compare", "a", "b", "--output", "file/out"],
    "export": ["export", "--output", "file/x.onnx"],
    "benchmark": ["benchmark", "--model", "bundled", "--json", "file/x.json"],
    "show-augment": ["show-augment", "--output", "file/x.png"],
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_an_output_below_a_file_is_told_with_the_remedy(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("file", "x.png"):
        (tmp_path / name).write_bytes(b"mine")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    assert cli.main(COMMANDS[verb]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"hymunet {verb}: file")
    assert said.endswith("is a file; name another folder\n")
    assert said.count("\n") == 1
    assert (tmp_path / "file").read_bytes() == b"mine"


WRITTEN = {"train": ["model", "reports"]}  # options of a step for its outputs
STEPS = sorted(path.parent.name for path in ROOT.glob("components/*/__main__.py"))
OUTPUTS = [(step, f"--{option}") for step in STEPS for option in WRITTEN.get(step, ["output"])]


@pytest.mark.parametrize(("step", "option"), OUTPUTS)
def test_a_step_is_not_begun_whose_result_could_not_be_written(step, option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"mine")
    main = importlib.import_module(f"components.{step}.__main__").main
    assert step_cli.guarded(step, lambda: main([option, "file/out"])) == 1
    assert capsys.readouterr().err == f"{step}: file/out: {tmp_path}/file is a file; name another folder\n"
    assert (tmp_path / "file").read_bytes() == b"mine"


CLOSED = {  # a program with an output in a folder that may not be written to, or below it -> what is said
    **{step: ("components." + step, f"{option} closed/new", "closed/new") for step, option in OUTPUTS},
    "predict": ("hymunet.cli", "predict x.png --output closed", "closed"),
    "evaluate": ("hymunet.cli", "evaluate --folder . --output closed/new", "closed/new"),
    "compare": ("hymunet.cli", "compare a b --output closed/new", "closed/new"),
    "submission": ("hymunet.cli", "submission --images . --output closed/s.zip", "closed"),
    "export": ("hymunet.cli", "export --output closed/m.onnx", "closed"),
    "export as a program": ("hymunet.cli", "export --format torch-export --output closed/m.pt2", "closed"),
    "benchmark": ("hymunet.cli", "benchmark --json closed/b.json", "closed"),
    "bundle": ("hymunet.cli", "bundle --training t --scores s --licence l --output closed", "closed"),
    "show-augment": ("hymunet.cli", "show-augment --output closed/a.png", "closed"),
    "models page": ("hymunet.cli", "models page --name x --output closed/new/r.html", "closed/new"),
    "deliver": ("hymunet.cli", "deliver --journals closed", "closed"),
    "study run": ("hymunet.cli", "study run studies/comparison --work closed/new", "closed/new"),
    "compile": ("pipelines", "compile --allow-tags --output closed/new/p.yaml", "closed/new"),
    "run-local": ("pipelines", "run-local --allow-tags --root closed/new", "closed/new"),
}


@pytest.mark.parametrize("case", CLOSED)
def test_an_output_in_a_closed_folder_is_told_before_the_work(case, tmp_path):
    module, words, place = CLOSED[case]
    (tmp_path / "closed").mkdir()
    for name in ("params.yaml", "profiles", "infra", "studies/comparison/study.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    before = sorted(tmp_path.rglob("*"))
    command = closed.command([sys.executable, "-m", module, *words.split()], tmp_path / "closed")
    own = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    name = {"hymunet.cli": f"hymunet {words.split()[0]}", "pipelines": "pipelines"}.get(module, case)
    there = f"{tmp_path}/closed:" if "/" not in place else f"{place}: {tmp_path}/closed"
    remedy = "change its permissions, or name another folder"
    assert done.stderr == f"{name}: {there} may not be written to by this user; {remedy}\n"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOENT, "a/b: No such file or directory"),
        (errno.ENOTDIR, "a/b: Not a directory; a part of this path is a file, name another place"),
        (errno.EEXIST, "a/b: File exists; a folder is to be there, name another place"),
        (errno.EACCES, "a/b: Permission denied; change its permissions, or name another place"),
        (errno.EROFS, "a/b: Read-only file system; name another place"),
        (errno.ENOSPC, "a/b: No space left on device; `hymunet clean` lists what may go"),
        (errno.ENAMETOOLONG, "a/b: File name too long; name a shorter one"),
    ],
)
def test_what_the_system_says_comes_with_a_remedy(number, words):
    assert in_words(OSError(number, os.strerror(number), "a/b")) == words
    assert "a/b" not in in_words(OSError(number, os.strerror(number)))


def failure(number, *file):
    return OSError(number, os.strerror(number), *file)


UNNAMED = {  # what work below "a/b" raises -> what is said of it
    "the system's": (failure(errno.ENOSPC), "a/b: No space left on device; `hymunet clean` lists what may go"),
    "NumPy's": (OSError("7 requested and 0 written"), "a/b: 7 requested and 0 written; is the disk full?"),
    "of a file": (failure(errno.EROFS, "c"), "c: Read-only file system; name another place"),
}


@pytest.mark.parametrize("case", UNNAMED)
def test_what_names_no_file_names_the_place_of_the_work(case):
    error, words = UNNAMED[case]
    with pytest.raises(OSError, match=r"\w") as found, named(Path("a/b")):
        raise error
    assert in_words(found.value) == words


@pytest.mark.parametrize(("number", "named_by_the_system"), [(errno.ENOSPC, False), (errno.EACCES, True)])
def test_a_file_that_cannot_be_written_is_named_and_not_its_temporary_one(
    number, named_by_the_system, tmp_path, monkeypatch
):
    def opened(self, *arguments):
        raise failure(number, *([str(self)] * named_by_the_system))

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OSError, match=r"out\.json'$") as found:
        atomic.write(tmp_path / "out.json", "{}")
    assert found.value.filename == str(tmp_path / "out.json")


FULL = {  # options by which a disk that fills is written to
    "benchmark": ["benchmark", "--json", "full/x.json"],
    "models page": ["models", "page", "--output", "full/registry.html"],
    "a study's workspace": ["study", "run", ".", "--work", "full/new/work"],
    "a study's own workspace": ["study", "run", "."],
}


@pytest.mark.skipif(os.geteuid() != 0, reason="a full disk is a small tmpfs, which needs root to mount")
@pytest.mark.parametrize("case", FULL)
def test_the_disk_that_is_full_is_named_of_all_that_a_verb_writes_to(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "artifacts").symlink_to("full" if case == "a study's own workspace" else "elsewhere")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", "full"], capture_output=True).returncode:
        pytest.skip("tmpfs cannot be mounted here, so no disk can be made full")
    try:
        (tmp_path / "full/filled").write_bytes(bytes(8192))
        arguments = cli.parser().parse_args(FULL[case])
        told = cli._with_place(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), arguments)
    finally:
        subprocess.run(["umount", "full"], check=True)
    assert Path(told.filename).resolve() == tmp_path / "full"


@pytest.mark.skipif(os.geteuid() != 0, reason="a full disk is a small tmpfs, which needs root to mount")
@pytest.mark.parametrize("output", ["full", "full/out"])
def test_a_disk_that_fills_is_named_with_a_remedy(output, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    cv2.imwrite("x.png", np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", "full"], capture_output=True).returncode:
        pytest.skip("tmpfs cannot be mounted here, so no disk can be made full")
    try:
        code = cli.main(["predict", "x.png", "--model", "bundled", "--output", output])
    finally:
        subprocess.run(["umount", "full"], check=True)
    assert code == 1
    said = f"{output}/x_overlay.png: {os.strerror(errno.ENOSPC)}; `hymunet clean` lists what may go"
    assert capsys.readouterr().err == f"hymunet predict: {said}\n"


HERE = {  # what names the working folder, or nothing -> exit code, and what is said
    "predict .": (1, "{}: no image in it"),
    "predict ''": (1, "an empty name: not there"),
    "show-augment --output .": (1, "{}: exists, and was not written"),
    "export --output .": (1, "{}: is a folder"),
    "compare . . --output out": (1, "{}: compared with itself"),
    "summary --reports .": (1, "{}/evaluation/metrics.json: no such file"),
    "summary --reports ''": (2, "argument --reports: is empty; name a place"),
    "study status ''": (2, "argument STUDY: is empty; name a place"),
}


@pytest.mark.parametrize("words", HERE)
def test_no_message_calls_a_folder_a_dot_or_nothing(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    code, said = HERE[words]
    try:
        found = cli.main(shlex.split(words))
    except SystemExit as end:
        found = end.code
    error = capsys.readouterr().err.splitlines()[-1]
    assert found == code
    assert f": {said.format(tmp_path)}" in error
    assert ": .:" not in error


def test_the_working_folder_that_is_closed_is_named_with_the_remedy(tmp_path):
    (tmp_path / "closed").mkdir()
    program = "import sys; from hymunet import cli; sys.exit(cli.main(sys.argv[1:]))"
    words = [sys.executable, "-c", program, *["compare", "a", "b", "--output", "."]]
    command = closed.command(words, tmp_path / "closed")
    own = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path / "closed", env=own, capture_output=True, text=True)
    assert done.stderr.startswith(f"hymunet compare: {tmp_path}/closed: may not be written to by this user; change")


def test_a_folder_that_can_be_made_is_free(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path, tmp_path / "a/b", tmp_path / "a", (tmp_path / "x").relative_to(tmp_path)):
        require_folder(place)
    assert list(tmp_path.iterdir()) == []


def test_make_clean_leaves_what_it_does_not_know(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    mine = ["build/mine/a", "data/mine/images/a.png", "reports/mine.csv", "artifacts/mine/model.safetensors", "a.onnx"]
    ours = ["build/demo/a", "build/site/a", "data/raw/a", "data/prepared/a", "artifacts/model/a", "reports/training/a"]
    for name in (*mine, *ours):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    subprocess.run(["make", "-s", "clean"], cwd=tmp_path, check=True)
    assert [name for name in (*mine, *ours) if (tmp_path / name).exists()] == mine
