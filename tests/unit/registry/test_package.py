"""What a version ships: its own code alone, and the packages that this code loads."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hymunet import evidence
from hymunet.inference import Segmenter
from hymunet.registry import package, register

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def saved(evaluated_project, tmp_path_factory):
    """The model in MLflow's format, as it is registered."""
    root = evaluated_project
    records = ("artifacts/model/model.json", "reports/evaluation/metrics.json", "data/split/split.json")
    read = [evidence.read(root / path, "") for path in records]
    target = tmp_path_factory.mktemp("saved") / "version"
    register.save(register.Candidate(root / "artifacts/model", root / "reports/evaluation", *read), target)
    return target


def test_no_code_of_data_sets_training_or_the_registry_is_shipped(saved):
    shipped = {path.relative_to(saved / "code").as_posix() for path in saved.glob("code/**/*.py")}
    for room in ("data", "training", "evaluation", "serving"):
        assert not [name for name in shipped if name.startswith(f"hymunet/{room}/")]
    assert {name for name in shipped if "registry" in name} == {"hymunet/registry/__init__.py", package.SERVE}
    assert "hymunet/models/unet.py" not in shipped, "another model's file is not needed"


def test_requirements_are_what_the_shipped_code_loads_as_installed_here(saved):
    lines = (saved / "requirements.txt").read_text().split()
    names = {line.partition("==")[0] for line in lines}
    assert names == {"mlflow", "numpy", "opencv-python-headless", "pydantic", "safetensors", "simplejpeg", "torch"}
    assert all("==" in line and "+" not in line for line in lines)


@pytest.mark.parametrize(
    ("file", "counts"), [("hymunet/inference.py", True), ("hymunet/images.py", True), ("hymunet/losses.py", False)]
)
def test_code_that_serves_is_content_and_other_code_is_not(file, counts, tmp_path, monkeypatch):
    copy = tmp_path / "project"
    shutil.copytree(ROOT / "hymunet", copy / "hymunet", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    monkeypatch.setattr(package.closure, "ROOT", copy)

    def content():
        files = package.closure.files(Path(package.SERVE), "hymunet.models.specs.hymunet", root=copy)
        return package.closure.sha256(files, copy)

    before = content()
    (copy / file).write_text((ROOT / file).read_text() + "\n# a remark\n")
    assert content() == before
    (copy / file).write_text((ROOT / file).read_text() + "\nMENDED = True\n")
    assert (content() != before) == counts


PREDICT = """
import sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
np.save("masks.npy", model.predict(np.load("images.npy")))
import hymunet
print(hymunet.__file__)
"""


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_a_version_predicts_in_the_environment_that_it_declares(saved, evaluated_project, tmp_path):
    """A fresh environment from its own requirements.txt, and no code but the version's."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed: no fresh environment can be made in reasonable time")
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", ""), "MLFLOW_DISABLE_TELEMETRY": "true"}
    python = tmp_path / "venv/bin/python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(saved / "requirements.txt")]
    done = subprocess.run(install, env=environment, capture_output=True, text=True)
    if done.returncode and any(words in done.stderr for words in ("error sending request", "Failed to fetch", "dns")):
        pytest.skip(f"no package index answers: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    images = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    command = [str(python), "-P", "-c", PREDICT, str(saved)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(saved) in done.stdout, "the code came with the version"
    expected = Segmenter.load(evaluated_project / "artifacts/model").masks(list(images))
    np.testing.assert_array_equal(np.load(tmp_path / "masks.npy"), np.stack(expected))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.linspace(0, 1, 48), "image 0 holds no value from 3 to 252"),
        (np.linspace(-1, 1, 48), "out of bounds for uint8"),
        (np.linspace(-2.5, 2.5, 48), "out of bounds for uint8"),
        (np.zeros(48), "image 0 holds no value from 3 to 252"),
        (np.linspace(0, 255, 48), None),
    ],
)
def test_fractions_posted_to_the_server_are_refused(values, reason, saved):
    """MLflow cuts them off to whole numbers before the model sees them."""
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.utils.proto_json_utils import parse_tf_serving_input

    model = loaded(saved)
    body = json.loads(json.dumps({"inputs": values.reshape(1, 4, 4, 3).tolist()}))
    schema = mlflow.models.Model.load(saved).get_input_schema()
    if reason:
        with pytest.raises((ValueError, MlflowException), match=reason):
            model.predict(parse_tf_serving_input(body, schema))
    else:
        assert model.predict(parse_tf_serving_input(body, schema)).shape == (1, 4, 4)


LOADED = {}


def loaded(saved):
    import mlflow

    if saved not in LOADED:
        LOADED[saved] = mlflow.pyfunc.load_model(str(saved))
    return LOADED[saved]


def test_the_program_that_is_served_imports_no_data_set_code():
    tree = ast.parse((ROOT / package.SERVE).read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "hymunet.inference" in modules
    assert not [name for name in package.code_files("hymunet") if name.startswith("hymunet/data/")]
