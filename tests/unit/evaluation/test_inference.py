"""From images of any size to masks of their own size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hymunet import models
from hymunet.inference import Segmenter


class Brightness(nn.Module):
    """Logit = the red channel, plus a ramp from left to right that flips can see."""

    def __init__(self, ramp: float = 0.0) -> None:
        super().__init__()
        self.ramp = nn.Parameter(torch.tensor(ramp))
        self.batches: list[int] = []

    def forward(self, x):
        self.batches.append(len(x))
        return x[:, :1] * 4 + self.ramp * torch.linspace(-1, 1, x.shape[-1])


def segmenter(model, flips=False, size=32):
    return Segmenter(model, size, 0.5, flips, {})


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_probabilities_come_in_order_and_in_batches():
    images, model, seen = random_images(20, 16, 16), Brightness(), []
    rows = np.arange(20)[::-1]
    found = np.stack(list(segmenter(model).stream(images, rows, seen.append)))[::-1]
    expected = 1 / (1 + np.exp(-4 * (images[..., 0] / 127.5 - 1)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (model.batches, seen, found.dtype) == ([16, 4], [16, 4], np.float32)


def test_flips_average_the_image_and_its_mirrors():
    images = random_images(2, 16, 16)
    found = segmenter(Brightness(ramp=1.0), flips=True).probabilities(images)
    logit = 4 * (images[..., 0] / 127.5 - 1)
    ramp = np.linspace(-1, 1, 16)
    expected = (1 / (1 + np.exp(-logit - ramp)) + 1 / (1 + np.exp(-logit + ramp))) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@given(st.integers(1, 70), st.integers(1, 70))
@settings(max_examples=30, deadline=None)
def test_a_mask_has_the_size_of_its_image(height, width):
    (mask,) = segmenter(Brightness()).masks([random_images(height, width)])
    assert (mask.shape, mask.dtype) == ((height, width), np.uint8)
    assert set(np.unique(mask)) <= {0, 1}


def test_a_mask_lies_where_the_lesion_is_in_the_original():
    image = np.zeros((90, 150, 3), np.uint8)
    image[30:60, 75:135] = 255
    _, mask = segmenter(Brightness()).masks([random_images(20, 30), image])
    truth = image[..., 0] > 0
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.95


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((8, 8), np.uint8), r"uint8 \(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), r"uint8 \(8, 8, 4\)"),
        (np.zeros((8, 8, 3), np.float32), r"float32 \(8, 8, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), "8×0"),
        ("image.png", "str"),
    ],
)
def test_what_is_no_rgb_image_is_refused(image, found):
    with pytest.raises(ValueError, match=found):
        segmenter(Brightness()).masks([image])


@pytest.mark.parametrize("flips", [False, True])
def test_bf16_differs_from_float32_only_next_to_the_threshold(flips):
    torch.manual_seed(0)
    model = models.build(models.section({"name": "hymunet", "size": [8, 16, 16, 32]}), 64).eval()
    exact = segmenter(model, flips, 64)
    images = random_images(4, 64, 64)
    logits = torch.logit(torch.from_numpy(exact.probabilities(images)))
    with torch.no_grad():  # so that probabilities reach from 0 to 1
        model.head.bias.sub_(logits.mean()).mul_(2 / logits.std())
        model.head.weight.mul_(2 / logits.std())
    wide = exact.probabilities(images)
    narrow = replace(exact, precision="bf16").probabilities(images)
    assert wide.min() < 0.2
    assert wide.max() > 0.8
    assert not np.array_equal(wide, narrow)
    assert np.abs(wide - narrow).max() < 0.04
    other = (wide > 0.5) != (narrow > 0.5)
    assert (np.abs(wide - 0.5)[other] < 0.04).all()
    assert other.mean() < 0.02


@pytest.mark.parametrize("native", [False, True])
def test_auto_takes_bf16_where_the_hardware_computes_in_it(native, monkeypatch):
    monkeypatch.setattr("hymunet.precision.computes_in_bfloat16", lambda device: native)
    images, seen = random_images(1, 16, 16), []
    model = nn.Conv2d(3, 1, 1)
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    replace(segmenter(model, size=16), precision="auto").probabilities(images)
    assert seen == [torch.bfloat16 if native else torch.float32]
