"""Where results cannot go is told in one line with a remedy, and before the work; nobody else's files are removed."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from components import cli as step_cli
from components.train.__main__ import main as train_step
from hymunet import atomic, cli
from hymunet.places import in_words, named, require_folder
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


@pytest.mark.parametrize("option", ["--model", "--reports"])
def test_a_training_is_not_begun_whose_result_could_not_be_written(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"mine")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    assert step_cli.guarded("train", lambda: train_step([option, "file/out"])) == 1
    assert capsys.readouterr().err == f"train: file/out: {tmp_path}/file is a file; name another folder\n"


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
