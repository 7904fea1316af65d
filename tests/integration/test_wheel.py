"""The wheel: one name in site-packages, and a command that needs no checkout."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from hymunet import models
from hymunet.data.acquire.synthetic import draw
from hymunet.models import catalogue

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the tracked files, unpacked where nothing else of the project is."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    built = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    done = subprocess.run(built, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    [wheel] = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)], check=True)
    return folder / "site"


def hymunet(installed: Path, empty: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed command in an empty folder, of the installed package alone."""
    program = f"import sys, hymunet.cli as c; assert c.__file__.startswith({str(installed)!r}); sys.exit(c.main())"
    environment = {**os.environ, "PYTHONPATH": str(installed), "MLFLOW_TRACKING_URI": ""}
    command = [sys.executable, "-P", "-c", program, *arguments]
    return subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)


def test_only_our_own_name_is_in_site_packages(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"hymunet", "bin"}
    assert (installed / "bin/hymunet").exists()
    assert list(installed.glob("hymunet/ops/csrc/*.cpp")), "sources, from which a kernel is known to be built"
    compiled = {path.name for path in installed.glob("hymunet/**/*.so")}
    assert compiled == {"_scan_cpu.so", "_png.so", "_contours.so"}, "the compiled parts"
    page = {path.suffix for path in installed.glob("hymunet/serving/page/*")}
    assert page == {".html", ".css", ".js", ".svg"}, "the page of the server"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], "VERB"),
        (["params"], "learning_rate"),
        (["deliver"], ""),
    ],
)
def test_what_needs_no_pipeline_answers_in_an_empty_folder(
    installed: Path, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    done = hymunet(installed, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_a_model_segments_a_picture_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    section = catalogue.find("unet").section(name="unet", size="small")
    info = {"model": section.model_dump(), "image_size": 64, "threshold": 0.5}
    models.save(models.build(section, 64), info, tmp_path / "model")
    image, _ = draw(0, 64, seed=0)
    cv2.imwrite(str(tmp_path / "photo.png"), image)
    done = hymunet(installed, tmp_path, "predict", "photo.png", "--model", "model", "--output", "masks")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "masks/photo_mask.png").exists()


def test_what_needs_the_pipeline_says_so(installed: Path, tmp_path: Path) -> None:
    cases = {
        ("profile", "demo"): "no profile 'demo'",
        ("summary",): "run the pipeline first",
        ("models", "list", "--name", "tiny"): "there is no registry at this path",
    }
    for arguments, message in cases.items():
        done = hymunet(installed, tmp_path, *arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
