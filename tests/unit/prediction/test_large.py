"""What large images take: sizes are known before pixels, and what is done in bands is what the plain way gives."""

import io
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hymunet import images
from hymunet.evaluation import pictures
from hymunet.formats.size import declared, require_decodable
from tests.support.image_files import png_of

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
    assert declared(content) == (shape[:2] if ending != ".webp" else None)
    assert declared(content[:12]) is None


def encoded(size, kind, **options):
    content = io.BytesIO()
    Image.new("L", size).save(content, kind, **options)
    return content.getvalue()


def of_other_order(width, height):
    """A TIFF of big-endian numbers, its size as such of four bytes and of two."""
    entries = struct.pack(">HHII", 256, 4, 1, width) + struct.pack(">HHIHH", 257, 3, 1, height, 0)
    return b"MM\0*" + struct.pack(">I", 8) + struct.pack(">H", 2) + entries + bytes(4)


SIZES = {  # a file's head -> height and width
    "TIFF, big-endian": (of_other_order(70_000, 9), (9, 70_000)),
    "TIFF whose directory is at its end": (encoded((30, 20), "TIFF"), (20, 30)),
    "BMP of OS/2": (b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 30, 20, 1, 24), (20, 30)),
    "BMP, rows from the top": (b"BM" + bytes(12) + struct.pack("<Iii", 40, 30, -20) + bytes(28), (20, 30)),
    "BigTIFF": (encoded((30, 20), "TIFF", big_tiff=True), None),
    "TIFF without a size": (b"II*\0" + struct.pack("<IH", 8, 0), None),
    "TIFF that leads out of itself": (b"II*\0" + struct.pack("<I", 2**31), None),
    "BMP, cut": (b"BM" + bytes(12) + struct.pack("<I", 40), None),
}


@pytest.mark.parametrize("case", SIZES)
def test_a_head_is_read_as_it_is_written(case):
    content, size = SIZES[case]
    assert declared(content) == size


BOUNDS = [("PNG", 1_000_000), ("BMP", 2**20), ("TIFF", 2**20)]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("kind", "most"), BOUNDS)
def test_what_is_too_large_to_be_decoded_is_said_to_be_that_and_nothing_else_is(kind, most, turned):
    """The bounds are those of the decoders that are installed: what is within them is decoded."""
    within, beyond = (encoded((1, side) if turned else (side, 1), kind) for side in (most, most + 1))
    require_decodable(within, "x")
    assert images.rgb(within, "x").shape[:2] == ((most, 1) if turned else (1, most))
    with pytest.raises(ValueError, match=r"x is not an image that can be decoded|x cannot be decoded"):
        images.rgb(beyond, "x")
    with pytest.raises(
        ValueError, match=rf"^x has .*{most + 1:,}.* too large to be decoded: at most {most:,} on a side"
    ):
        require_decodable(beyond, "x")


def test_an_area_that_is_too_large_is_said_too():
    with pytest.raises(ValueError, match=r"x has 40,000×40,000 pixels and is too large to be decoded"):
        require_decodable(png_of(40_000, 40_000), "x")


@pytest.mark.parametrize("content", [b"", b"no image", b"II*\0", encoded((30, 20), "PPM")])
def test_what_declares_no_size_is_left_to_the_decoder(content):
    require_decodable(content, "x")


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"no image"])
def test_a_damaged_head_declares_nothing(content):
    assert declared(content) is None
