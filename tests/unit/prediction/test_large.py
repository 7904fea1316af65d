"""What large images take: sizes are known before pixels, and what is done in bands is what the plain way gives."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hymunet.evaluation import pictures
from hymunet.formats.size import declared

COLOUR = (255, 176, 0)


def plainly(image, mask):
    """In floating-point numbers, the whole image at once."""
    inside = mask > 0
    result = image.copy()
    result[inside] = np.round(0.8 * result[inside] + 0.2 * np.array(COLOUR)).astype(np.uint8)
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(min(image.shape[:2]) / 200))
    return cv2.cvtColor(cv2.drawContours(result, contours, -1, COLOUR, width, cv2.LINE_AA), cv2.COLOR_RGB2BGR)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 3 * pictures.BAND + 1),
    width=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
    coarse=st.integers(1, 40),
)
def test_an_overlay_in_bands_is_the_one_of_the_whole_image(height, width, seed, coarse):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    blocks = rng.integers(0, 2, (-(-height // coarse), -(-width // coarse)), dtype=np.uint8)
    mask = np.ascontiguousarray(np.kron(blocks, np.ones((coarse, coarse), np.uint8))[:height, :width])
    before = image.copy()
    np.testing.assert_array_equal(pictures.overlay(image, mask), plainly(image, mask))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("shape", [(7, 90, 3), (90, 7, 3), (33, 33)])
def test_a_declared_size_is_the_decoded_one_or_not_known(ending, shape):
    content = cv2.imencode(ending, np.zeros(shape, np.uint8))[1].tobytes()
    assert declared(content) == (shape[:2] if ending in (".png", ".jpg") else None)
    assert declared(content[:12]) is None


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"no image"])
def test_a_damaged_head_declares_nothing(content):
    assert declared(content) is None
