"""The download stage as DVC runs it: nothing is fetched twice or lies twice, and a changed source is noticed."""

import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from functools import partial
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from hymunet import params
from hymunet.data.acquire.published import sums_sha256
from hymunet.data.acquire.sources import SOURCES
from hymunet.data.acquire.transfer import file_sha256
from tests.support.training_data import ROOT

ISIC = SOURCES["isic2018"]


@pytest.fixture
def project(tmp_path):
    """A checkout with what the data steps are, under DVC."""
    folder = tmp_path / "project"
    for name in ("hymunet", "components"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    dvc(folder, "init", "--no-scm")
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
    dvc(folder, "config", "core.no_scm", "true")
    return folder


def dvc(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["dvc", *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ran(folder: Path) -> bool:
    return "Running stage 'download'" in dvc(folder, "repro", "download")


def write_params(folder: Path, source: str, **values) -> None:
    content = params.read_yaml(ROOT / "profiles/paper.yaml")
    content["data"]["source"] = source
    content["data"][source] |= values
    YAML().dump(content, folder / "params.yaml")


@pytest.fixture
def mirror(tmp_path):
    """The official archives in miniature behind a web server; `asked` lists what was asked of it."""
    folder, asked = tmp_path / "mirror", []
    folder.mkdir()
    for archive in ISIC.archives + ISIC.extra:
        with zipfile.ZipFile(folder / archive.name, "w") as file:
            file.writestr("content.txt", archive.name * 1000)

    class Counting(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            asked.append(self.path.removeprefix("/"))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Counting, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def sums(folder: Path, archives) -> str:
    return sums_sha256({archive.name: file_sha256(folder / archive.name) for archive in archives})


def test_more_of_a_source_fetches_what_is_more_and_nothing_lies_twice(project, mirror):
    folder, address, asked = mirror
    write_params(project, "isic2018", mirror=address, sums=sums(folder, ISIC.archives))
    assert ran(project)
    first = {archive.name for archive in ISIC.archives}
    for name in first:
        paths = [project / "data/raw" / name, project / "data/archives" / name]
        digest = hashlib.md5(paths[0].read_bytes()).hexdigest()
        paths.append(project / ".dvc/cache/files/md5" / digest[:2] / digest[2:])
        assert len({path.stat().st_ino for path in paths}) == 1, "the archive, the output and the cache are one file"
    asked.clear()
    every = ISIC.archives + ISIC.extra
    write_params(project, "isic2018", mirror=address, sums=sums(folder, every), official_test=True)
    assert ran(project)
    assert {archive.name for archive in every} <= {path.name for path in (project / "data/raw").iterdir()}
    again = [name for name in asked if name in first]
    assert len(again) == len(first), "one look at each, that it is still the one"
    remote = project / "hymunet/data/acquire/remote.py"
    remote.write_text(remote.read_text() + "\n# a comment\n")
    assert not ran(project)


def test_a_changed_folder_is_noticed_and_an_old_one_does_not_return(project, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(ROOT / "components/download/example", mine)
    write_params(project, "folder", path=str(mine))
    assert ran(project)
    assert not ran(project)
    assert dvc(project, "status", "download").strip().endswith("up to date.")
    shutil.copy(mine / "images/lesion_1.jpg", mine / "images/another.jpg")
    shutil.copy(mine / "masks/lesion_1_mask.png", mine / "masks/another.png")
    shutil.rmtree(project / "data")
    assert ran(project)
    with zipfile.ZipFile(project / "data/raw/folder.zip") as file:
        assert "folder/images/another.jpg" in file.namelist()
    (mine / "images/another.jpg").write_bytes((mine / "images/lesion_2.jpg").read_bytes())
    assert ran(project)
    (mine / "images/another.jpg").unlink()
    (mine / "masks/another.png").unlink()
    dvc(project, "repro", "download")
    with zipfile.ZipFile(project / "data/raw/folder.zip") as file:
        assert len(file.namelist()) == 4


@pytest.mark.slow
def test_another_source_and_back_fetches_nothing(project, mirror):
    folder, address, asked = mirror
    write_params(project, "isic2018", mirror=address, sums=sums(folder, ISIC.archives))
    assert ran(project)
    before = file_sha256(project / "data/raw/SHA256SUMS")
    asked.clear()
    write_params(project, "synthetic", images=10, size=32)
    assert ran(project)
    write_params(project, "isic2018", mirror=address, sums=sums(folder, ISIC.archives))
    dvc(project, "repro", "download")
    assert file_sha256(project / "data/raw/SHA256SUMS") == before
    assert asked == []
