"""From images of any size to masks of their own size."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hymunet import inference
from hymunet.data.acquire.synthetic import draw
from hymunet.data.prepare.decode import decode_pair


class Brightness(nn.Module):
    """Logit = the red channel, plus a ramp from left to right that flips can see."""

    def __init__(self, ramp: float = 0.0) -> None:
        super().__init__()
        self.ramp = nn.Parameter(torch.tensor(ramp))
        self.batches: list[int] = []

    def forward(self, x):
        self.batches.append(len(x))
        return x[:, :1] * 4 + self.ramp * torch.linspace(-1, 1, x.shape[-1])


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_probabilities_come_in_order_and_in_batches():
    images, model, seen = random_images(11, 16, 16), Brightness(), []
    found = inference.probabilities(model, images, batch_size=4, progress=seen.append)
    expected = 1 / (1 + np.exp(-4 * (images[..., 0] / 127.5 - 1)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (model.batches, seen, found.dtype) == ([4, 4, 3], [4, 4, 3], np.float32)


def test_flips_average_the_image_and_its_mirrors():
    images = random_images(2, 16, 16)
    found = inference.probabilities(Brightness(ramp=1.0), images, flips=True)
    logit = 4 * (images[..., 0] / 127.5 - 1)
    ramp = np.linspace(-1, 1, 16)
    expected = (1 / (1 + np.exp(-logit - ramp)) + 1 / (1 + np.exp(-logit + ramp))) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@given(st.integers(1, 70), st.integers(1, 70))
@settings(max_examples=30, deadline=None)
def test_a_mask_has_the_size_of_its_image(height, width):
    (mask,) = inference.segment(Brightness(), [random_images(height, width)], 32, 0.5)
    assert (mask.shape, mask.dtype) == ((height, width), np.uint8)
    assert set(np.unique(mask)) <= {0, 1}


def test_a_mask_lies_where_the_lesion_is_in_the_original():
    image = np.zeros((90, 150, 3), np.uint8)
    image[30:60, 75:135] = 255
    _, mask = inference.segment(Brightness(), [random_images(20, 30), image], 32, 0.5)
    truth = image[..., 0] > 0
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.95


@pytest.mark.parametrize("size", [(50, 70), (20, 70), (20, 24)])
def test_images_are_resized_as_in_the_prepared_set(tmp_path, size):
    image = random_images(*size)
    mask = np.zeros(size, np.uint8)
    mask[3:9, 3:9] = 255
    encoded = [cv2.imencode(".png", picture)[1].tobytes() for picture in (image[..., ::-1], mask)]
    np.testing.assert_array_equal(decode_pair(*encoded, 127, 32).image, inference.resize(image, 32))
    (tmp_path / "image.png").write_bytes(encoded[0])
    np.testing.assert_array_equal(inference.read(tmp_path / "image.png"), image)


def test_a_large_jpeg_looks_to_the_model_as_in_the_prepared_set(tmp_path):
    image, mask = draw(0, 1100, 0)
    jpeg, png = (
        cv2.imencode(kind, picture)[1].tobytes() for kind, picture in ((".jpg", image[..., ::-1]), (".png", mask))
    )
    (tmp_path / "image.jpg").write_bytes(jpeg)
    prepared = decode_pair(jpeg, png, 127, 64).image.astype(int)
    difference = np.abs(inference.resize(inference.read(tmp_path / "image.jpg"), 64) - prepared)
    assert difference.mean() < 1
    assert difference.max() <= 8


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
        inference.segment(Brightness(), [image], 32, 0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is an empty file"),
        (b"not an image", "is not an image"),
        (b"\x89PNG\r\n\x1a\n", "is a truncated PNG"),
        (cv2.imencode(".jpg", np.zeros((99, 99, 3), np.uint8))[1].tobytes()[:-50], "is a truncated JPEG"),
    ],
)
def test_a_file_that_is_no_whole_image_is_named(tmp_path, content, message):
    (tmp_path / "lesion.png").write_bytes(content)
    with pytest.raises(ValueError, match=rf"lesion\.png {message}"):
        inference.read(tmp_path / "lesion.png")
