"""The quick decoders of masks and photographs against OpenCV: the same pixels, or the case is left to it."""

import io
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from hymunet.data.prepare import png
from hymunet.data.prepare.decode import REDUCED
from hymunet.data.prepare.jpeg import decode_rgb
from hymunet.data.prepare.manifest import facts
from hymunet.data.prepare.masks import read_mask, read_plane
from hymunet.evaluation import contours

FILTERS = 5


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(pixels: np.ndarray, filters: list[int]) -> bytes:
    """As the specification says, row by row: the residual of each pixel to what the row's filter predicts."""
    height, width = pixels.shape
    padded = np.zeros((height + 1, width + 1), int)
    padded[1:, 1:] = pixels
    rows = b""
    for y, kind in enumerate(filters):
        left, above, corner = padded[y + 1, :-1], padded[y, 1:], padded[y, :-1]
        distances = np.abs(np.stack([above - corner, left - corner, left + above - 2 * corner]))
        paeth = np.choose(distances.argmin(0), [left, above, corner])
        predicted = [0 * left, left, above, (left + above) // 2, paeth][kind]
        rows += bytes([kind]) + ((pixels[y] - predicted) % 256).astype(np.uint8).tobytes()
    header = struct.pack(">II", width, height) + png.PLAIN_GREY
    half = len(data := zlib.compress(rows)) // 2
    parts = [(b"IHDR", header), (b"tEXt", b"k\0v"), (b"IDAT", data[:half]), (b"IDAT", data[half:]), (b"IEND", b"")]
    return png.SIGNATURE + b"".join(chunk(*part) for part in parts)


def opencv(content: bytes) -> np.ndarray | None:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)


@st.composite
def pictures(draw) -> tuple[np.ndarray, list[int]]:
    """Flat stretches and noise, of any width to eight and beyond, and a filter for each row."""
    height, width, block = (draw(st.integers(1, top)) for top in (6, 40, 12))
    values = st.sampled_from([0, 255]) if draw(st.booleans()) else st.integers(0, 255)
    coarse = draw(arrays(np.uint8, (height, -(-width // block)), elements=values))
    return coarse.repeat(block, 1)[:, :width], draw(
        st.lists(st.integers(0, FILTERS - 1), min_size=height, max_size=height)
    )


def built() -> bool:
    return png.LIBRARY.exists()


needs_build = pytest.mark.skipif(not built(), reason="hymunet/data/_png.so is not built: no C++ compiler at install")


@needs_build
@settings(deadline=None)
@given(pictures())
def test_every_filter_gives_back_the_pixels(case):
    pixels, filters = case
    content = write_png(pixels, filters)
    np.testing.assert_array_equal(png.decode_grey(content), pixels)
    np.testing.assert_array_equal(opencv(content), pixels)


@needs_build
@settings(deadline=None)
@given(pictures(), st.data())
def test_a_damaged_file_never_gives_other_pixels(case, data):
    pixels, filters = case
    content = bytearray(write_png(pixels, filters))
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[position] ^= data.draw(st.integers(1, 255))
    else:
        del content[position:]
    found = png.decode_grey(bytes(content))
    assert found is None or np.array_equal(found, pixels)


@needs_build
@pytest.mark.parametrize("wrong", ["unknown filter", "too few rows", "too many rows", "wrong checksum"])
def test_rows_that_cannot_be_are_left_to_opencv(wrong):
    rows = {"unknown filter": b"\5ab\0ab", "too few rows": b"\0ab", "too many rows": b"\0ab\0ab\0ab"}
    data = zlib.compress(rows.get(wrong, b"\0ab\0ab"))
    data = data[:-1] + bytes([data[-1] ^ 1]) if wrong == "wrong checksum" else data
    header = struct.pack(">II", 2, 2) + png.PLAIN_GREY
    content = png.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    assert png.decode_grey(content) is None


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_masks_in_every_mode_are_the_same(mode):
    mask = np.zeros((30, 41), np.uint8)
    mask[5:20, 7:33] = 255
    buffer = io.BytesIO()
    image = Image.fromarray(mask.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(mask).convert(mode)
    image.save(buffer, "PNG")
    np.testing.assert_array_equal(read_mask(buffer.getvalue()), mask // 255)


UNUSABLE = {  # what lies where the compiled part should
    "nothing": None,
    "cut off": b"\x7fELF\x02\x01\x01",
    "of another system": b"\xcf\xfa\xed\xfe" * 100,
    "of other sources": contours.LIBRARY,
}


@pytest.mark.parametrize("state", UNUSABLE)
def test_without_the_compiled_part_masks_are_the_same(monkeypatch, tmp_path, state):
    content = write_png(np.eye(12, dtype=np.uint8) * 255, [4] * 12)
    left = UNUSABLE[state]
    if isinstance(left, Path):
        if not left.exists():
            pytest.skip("no C++ part is built: no C++ compiler at install")
        left = left.read_bytes()
    if left is not None:
        (tmp_path / "_png.so").write_bytes(left)
    monkeypatch.setattr(png, "LIBRARY", tmp_path / "_png.so")
    png._unfilter.cache_clear()
    try:
        assert png.decode_grey(content) is None
        np.testing.assert_array_equal(read_plane(content), np.eye(12) * 255)
    finally:
        png._unfilter.cache_clear()


def photograph(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    coarse = rng.integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def jpeg(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@settings(deadline=None)
@given(st.integers(9, 120), st.integers(9, 120), st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 99))
def test_photographs_are_those_of_opencv_pixel_for_pixel(factor, height, width, subsampling, progressive, grey, seed):
    image = photograph(np.random.default_rng(seed), height, width)
    content = jpeg(image.convert("L") if grey else image, subsampling=subsampling, progressive=progressive)
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), REDUCED[factor])
    expected = expected if factor == 1 else expected[..., ::-1]
    np.testing.assert_array_equal(decode_rgb(content, (height, width), factor), expected)


def test_photographs_to_be_turned_in_other_colours_or_damaged_are_left_to_opencv():
    image = photograph(np.random.default_rng(0), 40, 40)
    for orientation, plain in [(1, True), (3, False), (6, False)]:
        exif = Image.Exif()
        exif[0x010E], exif[0x0112] = "a description before it", orientation
        assert (decode_rgb(jpeg(image, exif=exif), (40, 40), 1) is not None) == plain
    assert decode_rgb(jpeg(image.convert("CMYK")), (40, 40), 1) is None
    assert decode_rgb(jpeg(image), (40, 48), 1) is None
    assert decode_rgb(jpeg(image)[:-200] + b"\xff\xd9", (40, 40), 1) is None
    assert decode_rgb(b"\xff\xd8\xff", (40, 40), 1) is None


@settings(deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1)))
def test_pieces_and_holes_are_those_of_labelling(mask):
    if not mask.any():
        return
    found = facts(b"", b"", np.zeros((*mask.shape, 3), np.uint8), mask)
    outside = np.pad(1 - mask, 1, constant_values=1)
    assert found["components"] == cv2.connectedComponents(mask, connectivity=8)[0] - 1
    assert found["holes"] == cv2.connectedComponents(outside, connectivity=4)[0] - 2


@pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler here: the row filters cannot be built")
def test_the_row_filters_are_built():
    assert built(), "run: python setup.py build_ext --inplace"
