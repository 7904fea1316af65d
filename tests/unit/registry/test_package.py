"""What a version ships: its own code alone, and the packages that this code loads."""

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from hymunet.inference import Segmenter
from hymunet.models import catalogue, model_folder
from hymunet.registry import contract, package, register
from hymunet.registry.fetch import fetched
from tests.support import small_study

ROOT = Path(__file__).resolve().parents[3]


def test_no_code_of_data_sets_training_or_the_registry_is_shipped(saved):
    shipped = {path.relative_to(saved / "code").as_posix() for path in saved.glob("code/**/*.py")}
    for room in ("data", "training", "evaluation", "serving"):
        assert not [name for name in shipped if name.startswith(f"hymunet/{room}/")]
    served = {"hymunet/registry/__init__.py", "hymunet/registry/sent.py", package.SERVE}
    assert {name for name in shipped if "registry" in name} == served
    assert "hymunet/models/unet.py" not in shipped, "another model's file is not needed"


def test_requirements_are_what_the_shipped_code_loads_as_installed_here(saved):
    lines = (saved / "requirements.txt").read_text().split()
    names = {line.partition("==")[0] for line in lines}
    assert names == {"mlflow", "numpy", "opencv-python-headless", "pydantic", "safetensors", "simplejpeg", "torch"}
    assert all("==" in line and "+" not in line for line in lines)


def test_packages_that_bring_a_module_are_those_that_python_names():
    named = {
        module: set(names)
        for module, names in metadata.packages_distributions().items()
        if module.isidentifier() and importlib.util.find_spec(module)  # Python 3.13 names files of all kinds
    }
    assert package._providers(set(named)) == named
    assert package._providers({"cv2", "no_such_module"}) == {"cv2": named["cv2"]}


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

def no_pickle(event, arguments):
    if event == "pickle.find_class":
        raise RuntimeError(f"something was unpickled: {arguments}")

sys.addaudithook(no_pickle)
import mlflow, numpy as np
model = mlflow.pyfunc.load_model("models:/in-its-own-environment/1")
images = np.load("images.npy")
np.save("masks.npy", model.predict(images))
segmenter = model.unwrap_python_model().segmenter
np.save("probabilities.npy", segmenter.probabilities(np.load("grid.npy")))
import hymunet
print(hymunet.__file__)
import pickle
try:
    pickle.loads(pickle.dumps(no_pickle))
except RuntimeError:
    print("pickle is forbidden")
"""


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(900)
def test_loaded_from_the_registry_it_is_the_trained_model_bit_for_bit(
    evaluated_project, registry, tmp_path, monkeypatch
):
    """In a fresh environment from its own requirements.txt, with no code but its own, and pickle forbidden."""
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed: no fresh environment can be made in reasonable time")
    monkeypatch.setenv("UV_FIND_LINKS", os.environ.get("PIP_FIND_LINKS", ""))
    root = Path(shutil.copytree(evaluated_project, tmp_path / "project"))
    places = ("artifacts/model", "reports/evaluation", "data/split/split.json", "reports/registration")
    register.register("in-its-own-environment", *(root / place for place in places), root)
    version = registry.get_model_version("in-its-own-environment", "1")
    with fetched(registry, version, whole=True) as (_, folder):
        try:
            python = contract.fresh(folder, tmp_path / "venv", [])
        except contract.NoEnvironment as error:
            if any(words in str(error) for words in ("error sending request", "Failed to fetch", "dns")):
                pytest.skip(f"no package index answers: {error}")
            raise
        assert contract._run(python, folder, 0) == {"unmet": [], "problems": []}
    rng = np.random.default_rng(0)
    trained = Segmenter.as_tested(root / "artifacts/model", root / "reports/evaluation", "cpu")
    images = rng.integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    grid = rng.integers(0, 256, (2, *[trained.image_size] * 2, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "grid.npy", grid)
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    kept |= {"MLFLOW_DISABLE_TELEMETRY": "true", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([python, "-P", "-c", PREDICT], cwd=tmp_path, env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code, forbidden = done.stdout.splitlines()[-2:]
    assert not code.startswith(str(ROOT)), "the code came with the version"
    assert forbidden == "pickle is forbidden"
    np.testing.assert_array_equal(np.load(tmp_path / "masks.npy"), np.stack(trained.masks(list(images))))
    found, expected = np.load(tmp_path / "probabilities.npy"), trained.probabilities(grid)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.linspace(0, 1, 48), "image 0 holds no value from 3 to 252"),
        (np.linspace(-1, 1, 48), "image 0 holds values from -1 to 1; pixels are whole numbers from 0 to 255"),
        (np.linspace(-2.5, 2.5, 48), "image 0 holds values from -2.5 to 2.5"),
        (np.zeros(48), "image 0 holds no value from 3 to 252"),
        (np.linspace(0, 255, 48), None),
    ],
)
def test_fractions_posted_to_the_server_are_refused(values, reason, saved):
    import mlflow
    from mlflow.utils.proto_json_utils import parse_tf_serving_input

    model = loaded(saved)
    body = json.loads(json.dumps({"inputs": values.reshape(1, 4, 4, 3).tolist()}))
    schema = mlflow.models.Model.load(saved).get_input_schema()
    if reason:
        with pytest.raises(ValueError, match=reason):
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


def test_who_loads_a_version_is_told_of_nothing():
    """MLflow warns, at each load, of a type hint of `predict` that it cannot hold requests against."""
    done = subprocess.run([sys.executable, "-c", "import hymunet.registry.serve"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


BORROWS = {  # what a model of another package may take of ours
    "nothing": "pass",
    "a layer": "from hymunet.models.layers.convolution import conv_block",
    "a module of the layers": "from hymunet.models.layers import convolution",
    "another model": "from hymunet.models import unet",
    "what layers say of themselves": "import hymunet.models.protocols",
}


@pytest.mark.parametrize("place", ["where it is built", "in a file of its own"])
@pytest.mark.parametrize("borrowed", BORROWS)
def test_a_model_of_another_package_is_shipped_with_what_it_takes_of_ours(borrowed, place, tmp_path, monkeypatch):
    packages = small_study.install_model(tmp_path / "packages", small_study.WORKS)
    line = BORROWS[borrowed]
    if place == "in a file of its own":
        (packages / "ward_net").mkdir()
        (packages / "ward_net.py").rename(packages / "ward_net/__init__.py")
        (packages / "ward_net/parts.py").write_text(line + "\n")
        line = "import ward_net.parts"
    file = next(packages.glob("ward_net*/__init__.py"), packages / "ward_net.py")
    file.write_text(
        file.read_text().replace("    from torch import nn\n", f"    from torch import nn\n    {line}\n", 1)
    )
    for name in [name for name in sys.modules if name.startswith("ward_net")]:
        monkeypatch.delitem(sys.modules, name)
    catalogue._find.cache_clear()
    monkeypatch.syspath_prepend(packages)
    section = catalogue.section({"name": "ward_net"})
    info = {"model": section.model_dump(), "image_size": 32, "threshold": 0.5}
    model_folder.save(catalogue.build(section, 32), info, tmp_path / "model")
    code = package.copy_code("ward_net", tmp_path / "code")
    command = [sys.executable, "-P", "-c", package.TRIAL, str(code.parent), str(tmp_path / "model")]
    own = os.environ | {"PYTHONPATH": str(packages)}
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shipped = {path.relative_to(code).as_posix() for path in code.rglob("*.py")}
    assert ("models/unet.py" in shipped) == (borrowed == "another model")
    catalogue._find.cache_clear()
