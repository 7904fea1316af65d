"""Each equation of the architecture, and the sizes that can be known in advance."""

from hashlib import sha256

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hymunet import models
from hymunet.models.layers.convolution import ResidualConvBlock
from hymunet.models.layers.fusion import MambaGuidedFusion
from hymunet.models.layers.state_space import SS2D, VisualStateSpaceBlock
from hymunet.models.layers.stochastic import DropPath
from hymunet.models.protocols import scans


def section(name="hymunet", **fields):
    return models.section({"name": name, **fields})


def build(name="hymunet", image_size=32, **fields):
    return models.build(section(name, **fields), image_size)


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("size", "millions"), [("small", 2.5), ("base", 5.5), ("large", 9.5)])
def test_hymunet_sizes(size, millions):
    assert count(build(size=size)) / 1e6 == pytest.approx(millions, rel=0.05)


def encoder_blocks(model):
    return [block for stage in model.stages for block in list(stage)[1:]]


@pytest.mark.parametrize("size", ["small", "base", "large"])
@pytest.mark.parametrize("directions", [4, 1])
def test_the_control_without_a_scan_has_equal_depth_and_equally_many_parameters(size, directions):
    hybrid, control = (build(size=size, encoder=encoder, directions=directions) for encoder in ("hybrid", "cnn"))
    assert next(scans(control), None) is None
    assert count(control) == pytest.approx(count(hybrid), rel=0.002)
    for block, twin in zip(encoder_blocks(hybrid), encoder_blocks(control), strict=True):
        assert count(twin) == pytest.approx(count(block), rel=0.01)


def test_the_ablations_change_what_they_name_and_nothing_else():
    full = build()
    assert len(list(scans(full))) == 4
    assert len(list(scans(build(encoder="mamba")))) == 8
    gates = sum(layer.attention.weight.numel() + 1 for layer in full.modules() if isinstance(layer, MambaGuidedFusion))
    assert count(full) - count(build(fusion="none")) == gates
    assert count(build(fusion="both")) - count(full) == gates - 4
    fewer = [count(build(directions=directions)) for directions in (4, 2, 1)]
    assert fewer[0] - fewer[1] == 2 * (fewer[1] - fewer[2])


@pytest.mark.parametrize("directions", [1, 2])
def test_fewer_directions_are_those_along_the_rows(directions):
    """The middle pixel reaches those after it in reading order; those before it, by the way back alone."""
    scan = SS2D(2, rank=1, directions=directions).eval()
    x = torch.ones(1, 3, 5, 2)
    with torch.no_grad():
        before = scan(x)
        x[0, 1, 2] += 1.0
        changed = (scan(x) - before).abs().amax(-1)[0] > 0
    walk = changed.flatten().tolist()
    assert walk[8:] == [True] * 7
    assert walk[:7] == [directions == 2] * 7


def test_channels_last_changes_nothing_and_survives_the_block():
    block = VisualStateSpaceBlock(32).eval()
    x = torch.randn(2, 32, 8, 8)
    with torch.no_grad():
        plain = block(x)
        channels_last = block.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert channels_last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(plain, channels_last)


def test_the_residual_block_is_the_identity_plus_its_body():
    block = ResidualConvBlock(8).eval()
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block(x), x + block.body(x))
    nn.init.zeros_(block.body[3].weight)
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize(("bias", "factor"), [(-100.0, 1.0), (100.0, 2.0), (0.0, 1.5)])
def test_fusion_gates_the_encoder_and_keeps_the_residual(bias, factor):
    """A closed gate returns the unfiltered residual; an open one doubles it (equations 7-9)."""
    fusion = MambaGuidedFusion(4)
    nn.init.zeros_(fusion.attention.weight)
    nn.init.constant_(fusion.attention.bias, bias)
    decoded, encoded = torch.randn(2, 4, 8, 8), torch.randn(2, 6, 8, 8)
    torch.testing.assert_close(fusion(decoded, encoded), torch.cat([factor * encoded, decoded], 1))


def test_the_four_scans_of_a_point_reach_every_pixel():
    scan = SS2D(2, rank=1).eval()
    for row, column in [(0, 0), (2, 3), (4, 6)]:
        x = torch.ones(1, 5, 7, 2)
        with torch.no_grad():
            before = scan(x)
            x[0, row, column] += 1.0
            changed = (scan(x) - before).abs().amax(-1)[0]
        assert bool((changed > 0).all()), (
            f"the point at {(row, column)} does not reach {(changed == 0).nonzero().tolist()}"
        )


def test_steps_start_in_mambas_range():
    step = nn.functional.softplus(SS2D(64, rank=4).dt_bias)
    assert float(step.min()) >= 0.99e-3
    assert float(step.max()) <= 0.101
    np.testing.assert_allclose(-torch.exp(SS2D(4, rank=1).A_log[0, 0]).detach(), -np.arange(1, 17), rtol=1e-6)


def test_the_gate_multiplies_the_branch():
    """With a gate of zero the branch vanishes and the block is the identity (equation 6)."""
    block = VisualStateSpaceBlock(16).eval()
    nn.init.zeros_(block.gate.weight)
    x = torch.randn(1, 16, 4, 4)
    torch.testing.assert_close(block(x), x)


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    torch.manual_seed(0)
    dropped = DropPath(0.25).train()(torch.ones(20_000, 2, 2, 1))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert torch.equal(dropped.amin((1, 2, 3)), dropped.amax((1, 2, 3)))
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(DropPath(0.25).eval()(torch.ones(2, 2, 2, 1)), torch.ones(2, 2, 2, 1))


def test_saving_and_loading_gives_the_same_model_and_the_same_bytes(tmp_path):
    model = build().eval()
    info = {"model": section().model_dump(), "image_size": 32, "threshold": 0.5}
    models.save(model, info, tmp_path / "a")
    loaded, read = models.load(tmp_path / "a")
    assert read == {**info, "weights_sha256": sha256((tmp_path / "a/model.safetensors").read_bytes()).hexdigest()}
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), model(images), rtol=1e-5, atol=1e-5)
    models.save(loaded, read, tmp_path / "b")
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize("damage", ["truncate", "pickle", "other", "missing", "json"])
def test_a_damaged_model_is_refused_by_name(tmp_path, damage):
    info = {"model": section("unet").model_dump(), "image_size": 32}
    models.save(build("unet"), info, tmp_path)
    weights = tmp_path / "model.safetensors"
    if damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "pickle":
        torch.save({name: tensor.clone() for name, tensor in load_file(weights).items()}, tmp_path / "pickled")
        (tmp_path / "pickled").replace(weights)
    elif damage == "other":
        models.save(build("hymunet"), info, tmp_path)
    elif damage == "missing":
        weights.unlink()
    else:
        (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ValueError, match=str(tmp_path)) as error:
        models.load(tmp_path)
    assert "\n" not in str(error.value)
