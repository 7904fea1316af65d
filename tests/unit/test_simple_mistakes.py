"""What is simply not there, or may not be written to, is told before torch or MLflow is imported: at once."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CALL = """
import sys
from hymunet.cli import main
code = main(sys.argv[1:])
print("imported:", *sorted({"torch", "mlflow"} & sys.modules.keys()))
sys.exit(code)
"""
BUNDLE = "--training t --scores s --licence l"
NO_PARAMS = "params.yaml: no such file"
NO_MODEL = "nope/model.json: no such file; train a model first"
NO_EVALUATION = "nope/metrics.json: no such file; evaluate"
NO_IMAGES = "nope: no such folder; name one with image files in it"
NO_ARRAYS = "nope/images.npy: no such file; run the prepare step first"
NO_SOURCE = "nope: not there, and no pattern that fits a file"
NO_STUDY = "nope: no such file; name a study's folder"
IS_A_FILE = "file: is a file; name another folder"
NOT_OURS = "not written by this command"

MISTAKES = [
    ("profile demo", "no profile 'demo'"),
    ("show-augment", NO_PARAMS),
    ("show-augment --params good.yaml --prepared nope", NO_ARRAYS),
    ("show-augment --output photo.png", NOT_OURS),
    ("predict nope", NO_SOURCE),
    ("predict photo.png --model nope", NO_MODEL),
    ("predict photo.png --model artifacts/model --model nope", NO_MODEL),
    ("predict photo.png --model models:/x", "models:/x: expected models:/NAME@ALIAS"),
    ("predict photo.png --evaluation nope", NO_EVALUATION),
    ("predict photo.png --output file", IS_A_FILE),
    ("predict empty.csv", "empty.csv: its first line names no column image, path, file, filename; it is empty"),
    ("predict other.csv", "names no column image, path, file, filename; found a, b"),
    ("evaluate --folder images --output out --model nope", NO_MODEL),
    ("evaluate --folder images --output out --model models:/x", "models:/x: expected models:/NAME@ALIAS"),
    ("evaluate --folder images --output out --evaluation nope", NO_EVALUATION),
    ("evaluate --folder nope --output out --model nope", NO_IMAGES),
    ("evaluate --images nope --masks images --output out", NO_IMAGES),
    ("evaluate --images images --masks nope --output out", NO_IMAGES),
    ("evaluate --images images --output out", "name the images in one way"),
    ("evaluate --prepared nope --output out", NO_ARRAYS),
    ("evaluate --prepared prepared --split nope --output out", "nope: no such file; run the split step first"),
    ("evaluate --folder images --columns nope --output out", "nope: no such file"),
    ("evaluate --folder images --output file", IS_A_FILE),
    ("evaluate --folder images --output taken", NOT_OURS),
    ("compare nope taken --output out", NO_EVALUATION),
    ("compare nope nope --output file", IS_A_FILE),
    ("submission --images nope --output s.zip", "nope: neither a folder nor a ZIP archive"),
    ("submission --images official --masks nope --output s.zip", "nope: neither a folder nor a ZIP archive"),
    ("submission --images official --masks images/none --output s.zip", "images/none: no mask"),
    ("submission --images images --output s.zip", "images: no image ISIC_NNNNNNN.jpg"),
    ("submission --images official --output s.zip --model nope", NO_MODEL),
    ("submission --images images --output file/s.zip", IS_A_FILE),
    ("submission --images images --output taken.zip", "taken.zip: exists"),
    ("models list", NO_PARAMS),
    ("models promote", NO_PARAMS),
    ("export --output m.onnx --model nope", NO_MODEL),
    ("export --output m.onnx --evaluation nope", NO_EVALUATION),
    ("export --output photo.png", NOT_OURS),
    ("export --output images", "images: is a folder"),
    ("export --output model", "model: --model takes ONNX files by their ending .onnx; name it model.onnx"),
    ("export --output new/model.v2 --format int8", "ending .onnx; name it new/model.v2.onnx"),
    ("export --output m.onnx --check nope", NO_SOURCE),
    ("export --output m.onnx --format int8 --prepared nope --model nope", NO_ARRAYS),
    ("export --output m.onnx --format torch-export", "m.onnx: torch.export's packages end in .pt2"),
    ("export --output taken.pt2 --format torch-export", NOT_OURS),
    ("benchmark --prepared prepared --split split.csv --model nope", NO_MODEL),
    ("benchmark --prepared nope", NO_ARRAYS),
    ("benchmark --prepared prepared --split nope", "nope: no such file; run the split step first"),
    ("benchmark --json file/b.json", IS_A_FILE),
    (f"bundle {BUNDLE} --model nope", NO_MODEL),
    (f"bundle {BUNDLE} --output file", IS_A_FILE),
    ("serve --model nope", NO_MODEL),
    ("serve --model models:/x", "models:/x: expected models:/NAME@ALIAS"),
    ("serve --model artifacts/model --port 99999", "--port 99999 must be in 0..65535"),
    ("serve --model artifacts/model --batch 0", "--batch 0 must be above 0"),
    ("deploy --kserve --model nope --image x", "--image x: not pinned"),
    (f"deploy --kserve --model nope --image x@sha256:{'0' * 64}", "--model nope: a cluster cannot read it"),
    (f"deploy --kserve --model models:/x --image x@sha256:{'0' * 64}", "models:/x: expected models:/NAME@ALIAS"),
    ("deliver --journals file", IS_A_FILE),
    ("deliver --journals nope", "nope: no such folder; name the one in which trainings wrote their journals"),
    ("study run nope", NO_STUDY),
    ("study status nope", NO_STUDY),
    ("study import nope nope", NO_STUDY),
    ("study tables nope", NO_STUDY),
    ("summary", "reports/evaluation/metrics.json: no such file"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the mistakes are made beside: a model's description, images, prepared arrays, files of somebody else's."""
    place = tmp_path_factory.mktemp("mistakes")
    for name in ("images/none", "official", "prepared", "taken", "artifacts/model"):
        (place / name).mkdir(parents=True)
    (place / "artifacts/model/model.json").write_text(json.dumps({"threshold": 0.5}))
    (place / "good.yaml").write_text((ROOT / "profiles/paper.yaml").read_text())
    for name in ("photo.png", "images/photo.png", "official/ISIC_0000001.png"):
        cv2.imwrite(str(place / name), np.zeros((8, 8, 3), np.uint8))
    for name, shape in (("images", (1, 8, 8, 3)), ("masks", (1, 8, 8))):
        np.save(place / f"prepared/{name}.npy", np.zeros(shape, np.uint8))
    for name in ("file", "taken/metrics.json", "taken.zip", "taken.pt2"):
        (place / name).write_text("somebody else's")
    (place / "split.csv").write_text("id,group,split\nphoto,photo,test\n")
    (place / "empty.csv").write_text("")
    (place / "other.csv").write_text("b,a\n1,2\n")
    return place


@pytest.mark.parametrize(("call", "message"), MISTAKES, ids=[call for call, _ in MISTAKES])
def test_a_simple_mistake_is_told_before_torch_or_mlflow_is_imported(folder, call, message):
    before = sorted(folder.rglob("*"))
    done = subprocess.run([sys.executable, "-c", CALL, *call.split()], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"hymunet {call.split()[0]}: ")
    assert message in done.stderr
    assert done.stdout.splitlines()[-1].split() == ["imported:"]
    assert sorted(folder.rglob("*")) == before, "nothing was written"


def test_without_a_training_here_there_is_nothing_to_deliver(tmp_path):
    done = subprocess.run([sys.executable, "-c", CALL, "deliver"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing to deliver" in done.stdout
