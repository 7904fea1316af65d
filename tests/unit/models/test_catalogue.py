"""Models are found by name, one's own and other packages'; a change of the house changes no weight."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hymunet import models, params, profiles
from hymunet.models import catalogue

ROOT = Path(__file__).resolve().parents[3]
# SHA-256 over names and values of the fresh weights from seed 0, as they were before models had Specs.
FRESH = {
    ("hymunet", "small"): "8b2f29c390572c6d",
    ("hymunet", "base"): "d557f0ae3533dfcd",
    ("hymunet", "large"): "3bc7a3e65ee9d1e3",
    ("unet", "small"): "a610bd359beafe84",
    ("unet", "base"): "bfbc7b346865cf34",
    ("unet", "large"): "5f1bf7bbb9d37af3",
}


@pytest.mark.parametrize(("name", "size"), FRESH)
def test_fresh_weights_are_those_of_before(name, size):
    torch.manual_seed(0)
    digest = hashlib.sha256()
    for key, tensor in models.build(models.section({"name": name, "size": size}), 64).state_dict().items():
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


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """Another package, installed, that declares the model `threshold`: one file, and an entry point."""
    (tmp_path / "clinic_models.py").write_text(
        """from typing import Literal

from hymunet.models.spec import ModelSection, Spec
from hymunet.section import Count


class Threshold(ModelSection):
    name: Literal["threshold"]
    width: Count = 4


def build(section, image_size):
    from torch import nn

    layers = [nn.Conv2d(3, section.width, 3, padding=1), nn.ReLU(), nn.Conv2d(section.width, 1, 1)]
    return nn.Sequential(*layers)


SPEC = Spec(section=Threshold, build=build, stride=lambda section: 1, tiny={})
"""
    )
    info = tmp_path / "clinic_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clinic-models\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hymunet.models]\nthreshold = clinic_models:SPEC\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_another_packages_model_is_one_of_the_models(foreign, tmp_path):
    content = params.read_yaml(ROOT / "params.yaml")
    content["model"] = {"name": "threshold", "width": 8}
    section = params.check(content).model
    assert section.model_dump() == content["model"]
    assert "  with name threshold:\n    width: whole number ≥ 1 (default 4)" in profiles.allowed()
    model = models.build(section, 33)
    models.save(model, {"model": section.model_dump(), "image_size": 33, "threshold": 0.5}, tmp_path / "model")
    loaded, _ = models.load(tmp_path / "model")
    images = torch.randn(1, 3, 33, 33)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), model(images), rtol=1e-4, atol=1e-5)


def test_a_model_that_was_saved_with_keys_of_old_is_refused_in_one_line(tmp_path):
    model = models.build(models.section({"name": "unet"}), 32)
    models.save(model, {"model": {"name": "unet", "size": "small", "drop_path": 0.1}, "image_size": 32}, tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path}: not a readable model: .*drop_path.* Extra inputs") as error:
        models.load(tmp_path)
    assert "\n" not in str(error.value)
