"""An array that cannot be used names its file; preparing again is the remedy where that mends it, and nowhere else."""

import os

import numpy as np
import pytest

from components import cli
from hymunet.data.feed import dataset
from hymunet.data.prepare import manifest

AGAIN = "run the prepare step again"
OPENED = {"for training": lambda path: dataset._open(path, 4), "for splitting": manifest.open_array}
every_way = pytest.mark.parametrize("way", OPENED)


def array(dtype=np.uint8, shape=(2, 4, 4, 3)):
    return lambda path: np.save(path, np.zeros(shape, dtype))


def cut(path, size):
    array()(path)
    os.truncate(path, size)


def archive(path):
    np.savez(path, np.zeros(3))
    os.replace(f"{path}.npz", path)


MENDED = {  # what became of the file -> what is said before the remedy
    "missing": (lambda path: None, "no such file; run the prepare step first"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable .npy array"),
    "cut off in its head": (lambda path: cut(path, 20), "not a readable .npy array"),
    "cut off in its pixels": (lambda path: cut(path, 200), "not a readable .npy array"),
    "no array": (lambda path: path.write_bytes(b"id,split\n" * 30), "not a readable .npy array"),
    "objects": (lambda path: np.save(path, np.array([{}], object)), "not a readable .npy array"),
    "an archive": (archive, "expected"),
    "floating-point": (array(np.float32), "expected"),
}


@every_way
@pytest.mark.parametrize("state", MENDED)
def test_what_preparing_again_mends_says_so(state, way, tmp_path):
    make, words = MENDED[state]
    path = tmp_path / "images.npy"
    make(path)
    with pytest.raises(ValueError, match=f"^{path}: {words}") as refusal:
        OPENED[way](path)
    said = str(refusal.value)
    assert said.endswith(AGAIN) or state == "missing"
    assert "\n" not in said


def loop(path):
    path.symlink_to(path)


def unreadable(path):
    array()(path)
    path.chmod(0)


LEFT = {  # what preparing again does not mend -> what is said; both end a step with 1
    "a folder": (lambda path: path.mkdir(), "Is a directory; a file is to be there"),
    "a link to itself": (loop, "Too many levels of symbolic links"),
    "not to be read": (unreadable, "Permission denied; change its permissions"),
}


@every_way
@pytest.mark.parametrize("state", LEFT)
def test_what_it_does_not_mend_is_told_as_what_it_is(state, way, tmp_path, capsys):
    if state == "not to be read" and os.geteuid() == 0:
        pytest.skip("root may read anything")
    make, words = LEFT[state]
    path = tmp_path / "images.npy"
    make(path)
    assert cli.guarded("train", lambda: int(OPENED[way](path).size)) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"train: {path}: {words}")
    assert "prepare" not in said
