"""A fresh environment of `hymunet[onnx]` alone: no torch in it, and the masks are the model's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hymunet import images
from hymunet.data.acquire.synthetic import draw
from hymunet.inference import Segmenter
from hymunet.portable import export

ROOT = Path(__file__).resolve().parents[3]
OFFLINE = ("error sending request", "Failed to fetch", "dns error")
pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Its folder, with the package built from the tracked files."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed: no fresh environment can be made in reasonable time")
    folder = tmp_path_factory.mktemp("fresh")
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "source" / name)
    variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    variables["UV_FIND_LINKS"] = os.environ.get("PIP_FIND_LINKS", "")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder / "venv")], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(folder / "venv/bin/python")]
    install += ["-c", str(ROOT / "constraints.txt"), f"{folder / 'source'}[onnx]"]
    done = subprocess.run(install, env=variables, capture_output=True, text=True)
    if done.returncode and any(words in done.stderr for words in OFFLINE):
        pytest.skip(f"no package index answers: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return folder / "venv"


def test_it_predicts_and_holds_no_torch(environment, finished_training, tmp_path):
    segmenter = Segmenter.load(finished_training / "artifacts/model", device="cpu")
    export.export(segmenter, tmp_path / "model.onnx")
    (tmp_path / "photos").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"photos/{number}.png"), draw(number, 96, 5)[0][: 50 + 20 * number])

    def hymunet(*arguments):
        command = [str(environment / "bin/hymunet"), *arguments]
        return subprocess.run(command, cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, text=True)

    done = hymunet("predict", "photos", "--model", "model.onnx", "--save", "mask,contours,coco", "--output", "out")
    assert done.returncode == 0, done.stderr
    for number in range(3):
        mask = cv2.imread(str(tmp_path / f"out/{number}_mask.png"), cv2.IMREAD_GRAYSCALE)
        (expected,) = segmenter.masks([images.read(tmp_path / f"photos/{number}.png")])
        assert np.mean(mask != 255 * expected) < 0.002, "pixels at the threshold may differ"
        assert 0 < expected.mean() < 1
    packages = {path.name for path in environment.glob("lib/python*/site-packages/*")}
    assert "onnxruntime" in packages
    assert not packages & {"torch", "mlflow", "onnx", "pandas", "scipy", "albumentations"}
    folder = str(finished_training / "artifacts/model")
    refused = hymunet("predict", "photos", "--model", folder, "--output", "other")
    assert refused.returncode == 1
    assert f"torch is not installed; --model {folder} needs it: pip install 'hymunet[torch]'" in refused.stderr
