"""Parts that setup.py compiled are told from sources that have changed since."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hymunet import compiled_parts

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("data/prepare/_png.so", "evaluation/_contours.so")

needs_compiler = pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler here: nothing can be compiled")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout's files that setup.py reads, and the parts that it made of them."""
    checkout = tmp_path_factory.mktemp("checkout")
    names = ["setup.py", "hymunet/compiled_parts.py", *(f"hymunet/{one}" for one in compiled_parts.PARTS.values())]
    for name in names:
        target = checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, target)
    compile_in(checkout)
    return checkout


def compile_in(checkout: Path, **environment: str) -> None:
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
    subprocess.run(command, cwd=checkout, env=os.environ | environment, check=True, capture_output=True)


def edited(part: Path, sources: Path) -> None:
    file = sorted(sources.iterdir())[0]
    file.write_text(file.read_text() + "// one line more\n")


def added(part: Path, sources: Path) -> None:
    (sources / "more.h").write_text("\n")


def removed(part: Path, sources: Path) -> None:
    sorted(sources.iterdir())[-1].unlink()


def renamed(part: Path, sources: Path) -> None:
    file = sorted(sources.iterdir())[0]
    file.rename(sources / f"other{file.suffix}")


def without_mark(part: Path, sources: Path) -> None:
    part.write_bytes(part.read_bytes().replace(compiled_parts.MARK, b"-" * len(compiled_parts.MARK)))


def cut(part: Path, sources: Path) -> None:
    part.write_bytes(part.read_bytes()[:100])


def empty(part: Path, sources: Path) -> None:
    part.write_bytes(b"")


@needs_compiler
@pytest.mark.parametrize("name", compiled_parts.PARTS)
@pytest.mark.parametrize("change", [edited, added, removed, renamed, without_mark, cut, empty])
def test_a_part_of_other_sources_is_named(
    change: Callable[[Path, Path], None], name: str, compiled: Path, tmp_path: Path
) -> None:
    library = shutil.copytree(compiled / "hymunet", tmp_path / "hymunet")
    compiled_parts.require_current(library)
    change(library / name, library / compiled_parts.PARTS[name])
    with pytest.raises(ValueError, match=r"other sources than those in .*csrc: compile it again with `pip") as caught:
        compiled_parts.require_current(library)
    assert str(library / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@needs_compiler
def test_compiling_again_is_the_remedy(compiled: Path, tmp_path: Path) -> None:
    checkout = shutil.copytree(compiled, tmp_path / "checkout")
    for name in SMALL:
        edited(checkout / "hymunet" / name, checkout / "hymunet" / compiled_parts.PARTS[name])
    with pytest.raises(ValueError, match=r"_png\.so"):
        compiled_parts.require_current(checkout / "hymunet")
    compile_in(checkout)
    compiled_parts.require_current(checkout / "hymunet")


@needs_compiler
@pytest.mark.parametrize("gone", ["part", "sources"])
def test_what_is_not_there_is_no_fault(gone: str, compiled: Path, tmp_path: Path) -> None:
    """Neither a part that was not built nor a library without sources."""
    library = shutil.copytree(compiled / "hymunet", tmp_path / "hymunet")
    for part, sources in compiled_parts.PARTS.items():
        (library / part).unlink() if gone == "part" else shutil.rmtree(library / sources)
    compiled_parts.require_current(library)


@needs_compiler
def test_the_same_sources_make_the_same_bytes(compiled: Path, tmp_path: Path) -> None:
    checkout = shutil.copytree(compiled, tmp_path / "elsewhere")
    compile_in(checkout)
    for name in compiled_parts.PARTS:
        assert (checkout / "hymunet" / name).read_bytes() == (compiled / "hymunet" / name).read_bytes(), name


COMMANDS = {
    "the command": ["-m", "hymunet.cli", "predict", "images", "--output", "out"],
    "a step": ["-m", "components.prepare"],
    "a study's cell": ["-m", "hymunet.study.cell", "studies/recipe", "isic2018/paper/seed-0", "--work", "work"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_whatever_computes_refuses_it_in_one_line(name: str, tmp_path: Path) -> None:
    """In a copy of the sources, with a part as earlier commits made it."""
    for one in ("hymunet", "components", "studies/recipe/study.yaml", "profiles/paper.yaml", "params.yaml"):
        (tmp_path / one).parent.mkdir(parents=True, exist_ok=True)
        without = shutil.ignore_patterns("*.so", "__pycache__")
        if (ROOT / one).is_dir():
            shutil.copytree(ROOT / one, tmp_path / one, ignore=without)
        else:
            shutil.copy(ROOT / one, tmp_path / one)
    (tmp_path / "hymunet/data/prepare/_png.so").write_bytes(b"of an earlier commit")
    (tmp_path / "images").mkdir()
    done = subprocess.run(
        [sys.executable, *COMMANDS[name]],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "_png.so was compiled from other sources" in done.stderr
    assert not (tmp_path / "out").exists()
