"""Published weights: that they mean what they meant, and that no others are taken for them."""

import hashlib
import pickle
import re
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch.nn import functional

from hymunet import models
from hymunet.models import pretrained
from hymunet.models.layers.efficientnet_lite import BASE, SCALES, TAKEN, EfficientNetLite, stages
from hymunet.models.spec import IMAGENET

TINY = {"name": "hymunet", "size": [8, 8, 8, 8]}
SUITS = {457, 652, 834, 906}  # ImageNet's bow tie, military uniform, suit, Windsor tie


def section(**changes):
    return models.section({**TINY, **changes})


@pytest.mark.parametrize("kind", SCALES)
def test_the_whole_network_knows_an_admiral(kind):
    """The classifier, whose head is laid on here, sees what Grace Hopper wears on matplotlib's sample photograph."""
    weights = pretrained.read(kind, IMAGENET, None)
    trunk = EfficientNetLite(kind, taken=(*TAKEN, len(BASE)))
    trunk.load_published(weights)
    photograph = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    assert photograph is not None
    square = np.ascontiguousarray(photograph[: photograph.shape[1], :, ::-1])
    pixels = cv2.resize(square, (256, 256), interpolation=cv2.INTER_CUBIC)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().sub(127.5).div(127.5)
    with torch.no_grad():
        deep = functional.conv2d(trunk.eval()(images)[-1], weights["_conv_head.weight"])
        norm = [weights[f"_bn1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        pooled = functional.relu6(functional.batch_norm(deep, *norm, eps=1e-3)).mean((2, 3))
        logits = functional.linear(pooled, weights["_fc.weight"], weights["_fc.bias"])
    assert len(SUITS & set(logits.topk(3).indices[0].tolist())) >= 2


@pytest.mark.parametrize(
    ("kind", "channels", "blocks"),
    [
        ("efficientnet_lite0", [16, 24, 40, 80, 112, 192, 320], [1, 2, 2, 3, 3, 4, 1]),
        ("efficientnet_lite2", [16, 24, 48, 88, 120, 208, 352], [1, 3, 3, 4, 4, 5, 1]),
    ],
)
def test_stages_are_scaled_as_published(kind, channels, blocks):
    assert [stage.channels for stage in stages(kind)] == channels
    assert [stage.repeats for stage in stages(kind)] == blocks


def test_a_training_starts_from_them_and_a_loaded_model_needs_none(tmp_path, monkeypatch):
    chosen = section(encoder="efficientnet_lite0", pretrained=IMAGENET)
    torch.manual_seed(0)
    model = models.build(chosen, 32)
    fresh = model.trunk.stem.weight.clone()
    models.start(chosen, model)
    published = pretrained.read("efficientnet_lite0", IMAGENET, None)
    assert not torch.equal(model.trunk.stem.weight, fresh)
    assert torch.equal(model.trunk.stem.weight, published["_conv_stem.weight"])
    assert torch.equal(model.trunk.blocks[10].project_norm.running_var, published["_blocks.10._bn2.running_var"])
    models.save(model, {"model": chosen.model_dump(), "image_size": 32, "threshold": 0.5}, tmp_path)
    monkeypatch.setattr(pretrained, "read", lambda *_: pytest.fail("read for a model that has its own weights"))
    loaded, _ = models.load(tmp_path)
    images = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), model.eval()(images))  # one is channels-last in memory


@pytest.fixture(scope="module")
def own_file(tmp_path_factory):
    """Weights of one's own, in the published form."""
    path = tmp_path_factory.mktemp("weights") / "own.pth"
    weights = {name: tensor * 0.5 for name, tensor in pretrained.read("efficientnet_lite0", IMAGENET, None).items()}
    torch.save(weights, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_of_ones_own(own_file):
    path, sha256 = own_file
    chosen = section(encoder="efficientnet_lite0", pretrained=str(path), pretrained_sha256=sha256)
    model = models.build(chosen, 32)
    models.start(chosen, model)
    published = pretrained.read("efficientnet_lite0", IMAGENET, None)
    assert torch.equal(model.trunk.stem.weight, published["_conv_stem.weight"] * 0.5)


def written(folder, content):
    path = folder / "weights.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("the file was run",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no weights", "no file of tensors"),
        (b"hello world\n", "no file of tensors"),
        (b"\x80", "no file of tensors"),
        (b"", "no file of tensors"),
        (save({"_fc.weight": torch.zeros(1)}), "no file of tensors"),
        (pickle.dumps(torch.nn.Linear(1, 1), protocol=2), "no file of tensors"),
        ({"harmful": Harmful()}, "no file of tensors"),
        ([1, 2], "expected tensors by name, not list"),
        ({"a": 1}, "expected tensors by name"),
        ({0: torch.zeros(1)}, "expected tensors by name"),
        ({"state_dict": {"_fc.weight": torch.zeros(1)}}, "expected tensors by name"),
        ({"_fc.weight": torch.zeros(1)}, "not the weights of efficientnet_lite0: stem.weight and 197 more"),
        ({"layer1.0.conv1.weight": torch.zeros(1)}, "not the weights of efficientnet_lite0: stem.weight and 197 more"),
        ({"_blocks.0": torch.zeros(1)}, "not the weights of efficientnet_lite0: _blocks.0 and 198 more"),
    ],
)
def test_what_are_no_weights_is_refused(content, reason, tmp_path):
    path, sha256 = written(tmp_path, content)
    chosen = section(encoder="efficientnet_lite0", pretrained=str(path), pretrained_sha256=sha256)
    with pytest.raises(ValueError, match=f"model.pretrained: {re.escape(str(path))}: {reason}"):
        models.start(chosen, models.build(chosen, 32))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"_blocks.1._se_reduce.weight": torch.zeros(8, 96, 1, 1)},  # of the full EfficientNet-B0, otherwise alike
            "not the weights of efficientnet_lite0: _blocks.1._se_reduce.weight and 0 more do not fit",
        ),
        ({"_bn0.bias": torch.full((32,), torch.nan)}, "_bn0.bias and 0 more tensors hold values that are not finite"),
    ],
)
def test_weights_that_only_look_right_are_refused(changes, reason, tmp_path):
    path, sha256 = written(tmp_path, {**pretrained.read("efficientnet_lite0", IMAGENET, None), **changes})
    chosen = section(encoder="efficientnet_lite0", pretrained=str(path), pretrained_sha256=sha256)
    with pytest.raises(ValueError, match=f"model.pretrained: {re.escape(str(path))}: {reason}"):
        models.start(chosen, models.build(chosen, 32))


def test_those_of_the_other_size_are_refused():
    trunk = EfficientNetLite("efficientnet_lite0")
    with pytest.raises(ValueError, match="not the weights of efficientnet_lite0: blocks"):
        trunk.load_published(pretrained.read("efficientnet_lite2", IMAGENET, None))


def test_altered_missing_and_uninstalled_weights_are_named(own_file, monkeypatch):
    path, sha256 = own_file
    with pytest.raises(ValueError, match=rf"{path} has SHA-256 {sha256}, expected {'0' * 64}"):
        pretrained.read("efficientnet_lite0", str(path), "0" * 64)
    with pytest.raises(ValueError, match=r"model.pretrained: /nowhere.pth: No such file"):
        pretrained.read("efficientnet_lite0", "/nowhere.pth", sha256)
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=re.escape("pip install 'hymunet[pretrained]'")):
        pretrained.read("efficientnet_lite0", IMAGENET, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pretrained": IMAGENET}, "encoder hybrid takes none; efficientnet_lite0 and efficientnet_lite2 do"),
        ({"encoder": "efficientnet_lite0", "pretrained": "w.pth"}, "pretrained_sha256 is missing"),
        ({"encoder": "efficientnet_lite0", "pretrained_sha256": "0" * 64}, "for a file that `pretrained` names"),
        (
            {"encoder": "efficientnet_lite0", "pretrained": IMAGENET, "pretrained_sha256": "0" * 64},
            "for a file that `pretrained` names",
        ),
        ({"encoder": "efficientnet_lite0", "pretrained": "w.pth", "pretrained_sha256": "abc"}, "pretrained_sha256"),
        ({"encoder": "efficientnet_lite1"}, "encoder"),
    ],
)
def test_sections_that_cannot_be_meant_are_refused(changes, reason):
    with pytest.raises(ValueError, match=reason):
        section(**changes)
