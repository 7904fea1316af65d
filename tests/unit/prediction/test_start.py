"""What `hymunet predict` loads before its first mask, counted: seconds depend on the machine, imports do not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

from hymunet import bundled, cli, models
from hymunet.data.acquire.synthetic import draw
from hymunet.prediction import open as opening

CORE = {"cv2", "hymunet", "numpy", "simplejpeg", "tqdm"}
PARAMETERS = {"annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection"}
PROGRAM = """
import gc, json, sys
collected = []
def torch_is_half_imported():
    return "torch" in sys.modules and not hasattr(sys.modules["torch"], "_logging")
gc.callbacks.append(lambda phase, info: collected.append(torch_is_half_imported()))
import hymunet.cli
code = hymunet.cli.main()
new = set(sys.modules)
if "torch" in new:
    new -= set(json.loads(sys.stdin.read()))  # what torch loads itself is its own affair
files = [name for name in new if (getattr(sys.modules[name], "__file__", None) or "").endswith((".py", ".so"))]
print(json.dumps({"modules": files, "collections": sum(collected)}))
sys.exit(code)
"""
OF_TORCH = "import json, sys, torch; print(json.dumps(list(sys.modules)))"


def loaded(folder: Path, model: str, known: str = "") -> dict[str, Any]:
    """`hymunet predict a.png` as a program of its own: what it loaded, how often it looked for garbage."""
    (folder / "home").mkdir(exist_ok=True)
    environment = {"PYTHONPATH": str(Path(cli.__file__).parents[1]), "HOME": str(folder / "home")}
    command = [sys.executable, "-c", PROGRAM, "predict", "a.png", "--model", model, "--output", f"of_{model}"]
    done = subprocess.run(command, cwd=folder, env=environment, input=known, capture_output=True, text=True, check=True)
    assert (folder / f"of_{model}" / "a_mask.png").exists()
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image, an untrained HyM-UNet, and an ONNX file of one product in place of a network."""
    import torch

    folder = tmp_path_factory.mktemp("start")
    cv2.imwrite(str(folder / "a.png"), draw(0, 64, 7)[0])
    torch.manual_seed(0)
    section = {"name": "hymunet", "size": "small", "drop_path": 0.0}
    info = {"model": section, "image_size": 32, "threshold": 0.5}
    models.save(models.build(models.section(section), 32), info, folder / "model")
    return folder


@pytest.fixture(scope="module")
def onnx_file(folder: Path) -> str:
    onnx = pytest.importorskip("onnx", reason="ONNX is an extra: pip install hymunet[export]")
    pytest.importorskip("onnxruntime", reason="ONNX is an extra: pip install hymunet[export]")
    from hymunet.portable import graph

    text = """<ir_version: 10, opset_import: ["" : 18]>
    core (uint8[N, 32, 32, 3] pixels) => (float[N, 32, 32] small) <float[3] mean = {0.001, 0.001, 0.001}>
    { f = Cast <to = 1> (pixels)
      small = MatMul (f, mean) }"""
    whole = graph.around(onnx.parser.parse_model(text), 32, 0.5)
    graph.describe(whole, {"weights_sha256": "0", "threshold": "0.5", "flips": "false"})
    onnx.save(whole, folder / "model.onnx")
    return "model.onnx"


def packages(names: list[str]) -> set[str]:
    found = {name.partition(".")[0] for name in names}
    found -= {*sys.stdlib_module_names, "sitecustomize"}
    return {name for name in found if not name.startswith(("_", "cython"))}


def test_with_torch_it_loads_nothing_of_the_pipeline(folder: Path) -> None:
    own = subprocess.run([sys.executable, "-c", OF_TORCH], capture_output=True, text=True, check=True).stdout
    found = loaded(folder, "model", own)
    assert packages(found["modules"]) <= CORE | PARAMETERS | {"safetensors"}, (
        "no mlflow, no albumentations, no parts of torch but its own"
    )
    assert len(found["modules"]) < 330, "a new import at the start has to be worth its time"
    assert found["collections"] == 0, "no garbage is looked for while torch is imported"


@pytest.mark.parametrize("model", ["model.onnx", "bundled"])
def test_without_torch_it_loads_a_fraction(folder: Path, onnx_file: str, model: str) -> None:
    """Nor does an image for the package's own model wait for torch, which is installed here."""
    assert onnx_file == "model.onnx"
    if model == "bundled" and not bundled.is_there():
        pytest.skip("this checkout comes without a model")
    if model == "bundled" and any(map(os.path.exists, opening.GPUS)):
        pytest.skip("a GPU is used by torch")
    found = loaded(folder, model)
    assert packages(found["modules"]) <= CORE | {"onnxruntime"}
    assert len(found["modules"]) < 400
    assert list((folder / "home").iterdir()) == [], "no store of events that are sent to somebody"
