"""From images of any size to masks of their own size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

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
