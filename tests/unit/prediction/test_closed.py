"""Folders that the user who predicts may not enter are named as that: neither passed over nor told as not there."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from hymunet.prediction.sources import entries

NOBODY = 65534


@pytest.fixture
def closed(monkeypatch):
    """A folder `scans` with an image and a folder `dark` that may not be entered, seen by a user who is not root."""
    root, before = Path(tempfile.mkdtemp()), os.geteuid()
    (root / "scans/dark").mkdir(parents=True)
    for name in ("scans/a.png", "scans/dark/b.png"):
        (root / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    for folder, mode in ((root, 0o755), (root / "scans/dark", 0)):
        folder.chmod(mode)
    monkeypatch.chdir(root)
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield root
    finally:
        os.seteuid(before)
        (root / "scans/dark").chmod(0o700)
        shutil.rmtree(root)


@pytest.mark.parametrize("source", ["scans/dark/b.png", "scans/dark/deep/c.png"])
def test_an_image_in_a_closed_folder_is_not_told_as_missing(closed, source):
    with pytest.raises(PermissionError, match=f"Permission denied: '{source}'"):
        entries([source], Path("out"))


@pytest.mark.parametrize("source", ["scans", "scans/dark"])
def test_a_closed_folder_is_an_entry_with_its_problem(closed, source):
    problems = [entry.problem for entry in entries([source], Path("out")) if entry.problem]
    assert problems == ["scans/dark: Permission denied; change its permissions, or name another place"]


def test_what_is_not_there_is_told_as_that(closed):
    with pytest.raises(ValueError, match="gone.png: not there"):
        entries(["scans/gone.png"], Path("out"))
