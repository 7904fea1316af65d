"""A folder that may not be looked into is an error to whatever takes all below it: its images were left out unsaid."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hymunet.data.acquire import folder
from hymunet.data.acquire.sections import Folder
from hymunet.evaluation.folders import FolderCases

NOBODY = 65534
EXAMPLE = Path(__file__).resolve().parents[3] / "components/download/example"


def packed(place: Path) -> list[str]:
    return [name for name, _ in folder.members(Folder(path=str(place)))]


def evaluated(place: Path) -> object:
    return FolderCases.of_two(place / "images", place / "masks", 32).ids


def predicted(place: Path) -> list[str]:
    pytest.importorskip("botocore", reason="needs the extra `dvc`")
    from pipelines.bucket import Place

    return list(Place(str(place)).versions())


TAKES = {"download": packed, "evaluate": evaluated, "batch prediction": predicted}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of images and masks with one more in `dark`, seen by a user who is not root."""
    root, before = Path(tempfile.mkdtemp()), os.geteuid()
    shutil.copytree(EXAMPLE, root / "set")
    root.chmod(0o755)
    try:
        yield root / "set"
    finally:
        os.seteuid(before)
        for path in root.glob("set/images/*"):
            path.chmod(0o755)
        shutil.rmtree(root)


@pytest.mark.parametrize("takes", TAKES)
@pytest.mark.parametrize("name", ["dark", "lost+found"])
def test_what_is_closed_is_refused_unless_it_is_a_system_s_own(takes: str, name: str, place: Path) -> None:
    take: Callable[[Path], object] = TAKES[takes]
    alone = take(place)
    closed = place / "images" / name
    closed.mkdir()
    shutil.copy(place / "images/lesion_1.jpg", closed / "b.jpg")
    closed.chmod(0)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    if name == "lost+found":
        assert take(place) == alone
    else:
        with pytest.raises(PermissionError) as refused:
            take(place)
        assert refused.value.filename == str(closed)
