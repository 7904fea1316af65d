"""The loss against plain numpy and scipy, and at its corners."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, special

from hymunet.losses import HybridLoss, boundary_band, dice_loss


def random_batch(seed, batch=3, size=32):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 1, size, size, generator=generator) * 4
    blobs = ndimage.gaussian_filter(torch.rand(batch, size, size, generator=generator).numpy(), (0, 3, 3))
    masks = torch.from_numpy((blobs > blobs.mean()).astype(np.float32))[:, None]
    return logits, masks


def band_by_morphology(mask, radius):
    """The same band from scipy's binary morphology; the frame is no contour."""
    structure = np.ones((2 * radius + 1, 2 * radius + 1))
    dilated = ndimage.binary_dilation(mask, structure)
    return dilated & ~ndimage.binary_erosion(mask, structure, border_value=1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), radius=st.integers(1, 4))
def test_the_band_is_dilation_minus_erosion(seed, radius):
    _, masks = random_batch(seed, batch=1)
    expected = band_by_morphology(masks[0, 0].numpy() > 0, radius)
    np.testing.assert_array_equal(boundary_band(masks, radius)[0, 0].numpy() > 0, expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_loss_is_the_sum_that_the_equations_say(seed):
    logits, masks = random_batch(seed)
    z, g = logits.double().numpy()[:, 0], masks.double().numpy()[:, 0]
    p = special.expit(z)
    dice = np.mean([1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, g, strict=True)])
    bce = -(g * special.log_expit(z) + (1 - g) * special.log_expit(-z))
    band = np.stack([band_by_morphology(mask > 0, 1) for mask in g])
    expected = 0.7 * dice + 1.1 * bce.mean() + 0.5 * bce[band].sum() / max(band.sum(), 1)
    loss = HybridLoss((0.7, 1.1, 0.5), smoothing=1.0, boundary_radius=8)(logits, masks)  # 8 at 256 is 1 at 32
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_no_contour_no_boundary_term():
    logits = torch.randn(2, 1, 16, 16)
    for masks in (torch.zeros(2, 1, 16, 16), torch.ones(2, 1, 16, 16)):
        assert not boundary_band(masks, 2).any()
        assert torch.isfinite(HybridLoss((1, 1, 1), 1.0, 2)(logits, masks))


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("shown", [0, 1], ids=["every mask is empty", "one shows a lesion"])
@pytest.mark.parametrize("logit", [-200.0, 0.0, 200.0])
def test_images_without_a_lesion_have_a_finite_loss_and_a_gradient_towards_nothing(levels, shown, logit):
    masks = torch.zeros(4, 1, 32, 32)
    masks[:shown, :, 8:20, 8:20] = 1
    logits = [torch.full((4, 1, 32 >> level, 32 >> level), logit, requires_grad=True) for level in range(levels)]
    loss = HybridLoss((1, 1, 0.5), 1.0, 2, levels)(logits if levels > 1 else logits[0], masks)
    loss.backward()
    assert torch.isfinite(loss)
    assert (float(loss.detach()) < 1e-5) == (logit < 0 and not shown)
    for level in logits:
        assert torch.isfinite(level.grad).all()
        assert (level.grad[shown:] > 0).all() == (logit >= 0)


def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_much():
    _, masks = random_batch(0)
    loss = HybridLoss((1, 1, 0.5), 1.0, 2)
    assert float(loss(200 * (masks - 0.5), masks)) < 1e-4
    assert float(loss(200 * (0.5 - masks), masks)) > 50


def test_extreme_logits_have_finite_gradients():
    logits = torch.tensor([[[[1e4, -1e4], [1e4, -1e4]]]], requires_grad=True)
    HybridLoss((1, 1, 1), 1.0, 2)(logits, torch.tensor([[[[0.0, 0.0], [1.0, 1.0]]]])).backward()
    assert torch.isfinite(logits.grad).all()


def test_half_precision_logits_are_summed_in_float32():
    logits, masks = random_batch(1, batch=2, size=64)
    exact = dice_loss(logits.bfloat16().float(), masks, 1.0)
    assert float(HybridLoss((1, 0, 0), 1.0, 2)(logits.bfloat16(), masks)) == pytest.approx(float(exact), rel=1e-6)


def test_levels_see_smaller_masks_and_count_half_as_much_each():
    _, masks = random_batch(3)
    outputs = [torch.randn(3, 1, 32 // 2**level, 32 // 2**level) for level in range(3)]
    deep, plain = HybridLoss((0.7, 1.1, 0.5), 1.0, 8, levels=3), HybridLoss((0.7, 1.1, 0.5), 1.0, 8)
    expected = 0.0
    for level, output in enumerate(outputs):
        side, scale = 32 // 2**level, 2**level
        blocks = masks.numpy().reshape(3, 1, side, scale, side, scale).mean((3, 5))
        truth = torch.from_numpy((blocks >= 0.5).astype(np.float32))
        expected += (4 / 7, 2 / 7, 1 / 7)[level] * float(plain(output, truth))
    assert float(deep(outputs, masks)) == pytest.approx(expected, rel=1e-6)


def test_parts_under_deep_supervision_average_to_the_whole():
    _, masks = random_batch(5, batch=4)
    outputs = [torch.randn(4, 1, 32 // 2**level, 32 // 2**level) for level in range(3)]
    loss = HybridLoss((1, 1, 0.5), 1.0, 8, levels=3)
    bands = (loss.band_pixels(masks) / 2).unbind()
    parts = [loss([output[part] for output in outputs], masks[part], bands) for part in (slice(0, 2), slice(2, 4))]
    assert float(sum(parts) / 2) == pytest.approx(float(loss(outputs, masks)), rel=1e-6)


def test_a_wrong_number_of_levels_is_no_loss():
    _, masks = random_batch(0)
    with pytest.raises(ValueError, match="zip"):
        HybridLoss((1, 1, 1), 1.0, 2, levels=2)(masks, masks)
