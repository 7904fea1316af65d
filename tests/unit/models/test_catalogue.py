"""Models are found by name, one's own and other packages'; a change of the house changes no weight."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from hymunet import models, params, profiles
from hymunet.models import catalogue
from tests.support.training_data import drawn, write_inputs

ROOT = Path(__file__).resolve().parents[3]
# SHA-256 over names and values of the fresh weights from seed 0, as they were before models had Specs; without those
# that come from a logarithm, whose last bit depends on the processor's vectors.
FRESH = {
    ("hymunet", "small"): "c70d21b315e11776",
    ("hymunet", "base"): "403a9ec56f6e108b",
    ("hymunet", "large"): "de18b6ac94a83bf1",
    ("unet", "small"): "a610bd359beafe84",
    ("unet", "base"): "bfbc7b346865cf34",
    ("unet", "large"): "5f1bf7bbb9d37af3",
}


@pytest.mark.parametrize(("name", "size"), FRESH)
def test_fresh_weights_are_those_of_before(name, size):
    torch.manual_seed(0)
    digest = hashlib.sha256()
    for key, tensor in models.build(models.section({"name": name, "size": size}), 64).state_dict().items():
        if not key.endswith(("dt_bias", "A_log")):
            digest.update(key.encode() + tensor.numpy().tobytes())
    assert digest.hexdigest()[:16] == FRESH[name, size]


def test_every_model_is_declared_by_its_own_two_files():
    for name in catalogue.names():
        assert (ROOT / f"hymunet/models/{name}.py").is_file()
        assert catalogue.find(name).section.model_fields["name"].annotation.__args__ == (name,)
        assert models.section({"name": name}), "every key but the name has a default"


@pytest.mark.parametrize(
    "program",
    [
        "params.load('params.yaml', 'model')",
        "profiles.allowed()",
        "models.section({'name': 'hymunet'})",
    ],
)
def test_sections_are_read_without_torch(program):
    code = f"import sys; from hymunet import models, params, profiles; {program}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


PAGE = ROOT / "docs/adding_a_model.md"


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """The package of docs/adding_a_model.md, installed."""
    code, settings = re.findall(r"```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (entry,) = tomllib.loads(settings)["project"]["entry-points"]["hymunet.models"].items()
    (tmp_path / "clinic_models.py").write_text(code)
    info = tmp_path / "clinic_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clinic-models\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[hymunet.models]\n{entry[0]} = {entry[1]}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_page_on_adding_a_model_is_a_page():
    assert len(PAGE.read_text().splitlines()) <= 30


def test_another_packages_model_is_one_of_the_models(foreign, tmp_path):
    content = params.read_yaml(ROOT / "params.yaml")
    content["model"] = {"name": "clinic_small", "width": 4}
    section = params.check(content).model
    assert section.model_dump() == content["model"]
    assert "  with name clinic_small:\n    width: whole number ≥ 1 (default 8)" in profiles.allowed()
    with pytest.raises(ValueError, match="model.size = 'small'; allowed with name clinic_small: name, width"):
        params.check({**content, "model": {"name": "clinic_small", "size": "small"}})


def test_another_packages_model_trains_and_is_loaded(foreign, tmp_path, monkeypatch):
    """By the pipeline's own program, as a user starts it."""
    inputs = write_inputs(tmp_path / "inputs", *drawn(20, 33), validation=6, test=4)
    content = params.read_yaml(ROOT / "params.yaml")
    content["model"], content["prepare"]["image_size"] = {"name": "clinic_small"}, 33
    content["train"] |= {"epochs": 2, "batch_size": 4, "workers": 0, "example_every": 0}
    (tmp_path / "params.yaml").write_text(json.dumps(content))
    outputs = ["--model", str(tmp_path / "model"), "--reports", str(tmp_path / "reports")]
    environment = {"PYTHONPATH": f"{ROOT}{os.pathsep}{foreign}", "HYMUNET_TRACKING": "off"}
    subprocess.run(
        [sys.executable, "-m", "components.train", "--params", "params.yaml", *inputs.arguments(), *outputs],
        cwd=tmp_path,
        env={**os.environ, **environment},
        check=True,
    )
    model, info = models.load(tmp_path / "model")
    assert info["model"] == {"name": "clinic_small", "width": 8}
    with torch.no_grad():
        assert model(torch.randn(1, 3, 33, 33)).shape == (1, 1, 33, 33)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unte", "'unte': no such model; did you mean unet?"),
        ("zeppelin", ", vm_unet; of another package's, that package must be installed here (docs/adding_a_model.md)"),
    ],
)
def test_an_unknown_name_is_told_what_may_be_meant(name, said):
    with pytest.raises(ValueError, match="no such model") as error:
        models.section({"name": name})
    assert str(error.value).endswith(said)


ANOTHER = "model.json is of another version of this program, such as a newer one; update it, install the package"
NO_MODEL = "model.json names no model with its image_size; replace it by a whole copy"
DESCRIBED = {  # what model.json holds in place of what was written -> what is said
    "a key of another version": (
        {"model": {"name": "unet", "size": "small", "gates": 3}},
        "(model.gates: unknown key)",
    ),
    "a value of another version": (
        {"model": {"name": "unet", "size": "giant"}},
        "(model.size = 'giant': input should be",
    ),
    "a model of another version": ({"model": {"name": "unet9"}}, "(model.name = 'unet9': no such model; did you mean"),
    "a name that is none": ({"model": {"name": [1]}}, "(model.name = [1]: expected one of"),
    "no name": ({"model": {"size": "small"}}, NO_MODEL),
    "a word for a model": ({"model": "unet"}, NO_MODEL),
    "a word for a size": ({"image_size": "32"}, NO_MODEL),
    "no size": ({"image_size": None}, NO_MODEL),
    "a list": (["unet"], NO_MODEL),
    "no hash": ({"weights_sha256": None}, "model.safetensors are not the weights that model.json describes"),
}


@pytest.mark.parametrize("case", DESCRIBED)
def test_a_model_of_another_version_or_kind_is_refused_in_one_line(tmp_path, case):
    held, said = DESCRIBED[case]
    models.save(
        models.build(models.section({"name": "unet"}), 32), {"model": {"name": "unet"}, "image_size": 32}, tmp_path
    )
    written = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**written, **held} if isinstance(held, dict) else held))
    with pytest.raises(ValueError, match=f"^{tmp_path}: not a readable model: ") as error:
        models.load(tmp_path)
    assert said in str(error.value)
    assert (ANOTHER in str(error.value)) is said.startswith("(")
    assert "\n" not in str(error.value)
    assert "pydantic" not in str(error.value)


def test_what_a_newer_version_adds_beside_the_model_is_no_hindrance(tmp_path):
    model = models.build(models.section({"name": "unet"}), 32)
    models.save(model, {"model": {"name": "unet"}, "image_size": 32, "added": [1]}, tmp_path)
    assert models.load(tmp_path)[1]["added"] == [1]


NARROW = {  # widths -> models that refuse them, by the section
    (1, 1, 1, 1): {"ce_net", "hymunet"},
    (1, 3, 7, 9): {"ce_net", "hymunet"},
    (2, 3, 5, 7): {"ce_net"},
    (4, 4, 4, 4): set(),
}


@pytest.mark.parametrize("size", NARROW, ids=str)
@pytest.mark.parametrize("name", ["unet", "attention_unet", "ce_net", "hymunet", "resunet", "unet_mamba", "unetpp"])
def test_widths_that_a_network_cannot_have_are_refused_by_its_section(name, size):
    content = {"name": name, "size": list(size)}
    if name in NARROW[size]:
        with pytest.raises(ValueError, match=r"greater than or equal to \d"):
            models.section(content)
    else:
        models.build(models.section(content), 64)(torch.zeros(2, 3, 64, 64)).sum().backward()
