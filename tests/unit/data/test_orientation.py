"""Images that EXIF turns, with masks drawn on what viewers show or on the stored pixels: found out, or asked."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from hymunet.data.acquire.synthetic import draw
from hymunet.data.prepare.decode import decode_pair
from hymunet.data.prepare.orientation import SHOWN, STORED, convention, orientation

STORING = {  # how the shown picture lies in the file, by EXIF's number
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}


def case(index=14, width=96):
    """An image and its mask, off the middle."""
    image, mask = draw(index, 128, seed=0)
    return np.ascontiguousarray(image[8:104, 8 : 8 + width]), np.ascontiguousarray(mask[8:104, 8 : 8 + width])


def file(pixels, number, form="JPEG"):
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a description before it", number
    buffer = io.BytesIO()
    lossless = {"quality": 98, "subsampling": 0} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, form, exif=exif, **lossless)
    return buffer.getvalue()


def png(mask):
    return cv2.imencode(".png", np.ascontiguousarray(mask))[1].tobytes()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("number", STORING)
def test_the_number_is_read_from_every_kind_of_file(form, number):
    assert orientation(file(case()[0], number, form)) == number


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"II*\0", b"MM\0*\0\0\0\x08"]
)
def test_what_cannot_be_understood_is_upright(content):
    assert orientation(content) == 1


@pytest.mark.parametrize("drawn_on", [SHOWN, STORED])
@pytest.mark.parametrize("number", [number for number in STORING if number > 1])
@pytest.mark.parametrize("width", [96, 80], ids=["square", "oblong"])
def test_image_and_mask_come_out_the_same_way_up(number, drawn_on, width):
    """Eight turns × two conventions × shapes: told by the shape, or by the set."""
    image, mask = case(width=width)
    stored = file(STORING[number](image), number)
    drawn = mask if drawn_on == SHOWN else STORING[number](mask)
    way = convention([(stored, np.ascontiguousarray(drawn) // 255)])
    assert way == drawn_on
    found = decode_pair(stored, png(drawn), 127, 64, way)
    expected = decode_pair(file(image, 1), png(mask), 127, 64)
    if drawn_on == STORED:  # everything as stored
        expected = decode_pair(file(STORING[number](image), 1), png(drawn), 127, 64)
    np.testing.assert_array_equal(found.mask, expected.mask)
    assert abs(found.image.astype(int) - expected.image).mean() < 3


def test_other_pairs_whose_shape_tells_decide_for_those_that_fit_both_ways():
    image, mask = case()
    flat = np.full_like(image, 120)  # its own colours say nothing
    oblong, oblong_mask = case(1, width=80)
    pairs = [
        (file(flat, 3), mask // 255),
        (file(STORING[6](oblong), 6), np.ascontiguousarray(STORING[6](oblong_mask)) // 255),
    ]
    assert convention(pairs[:1]) is None
    assert convention(pairs) == STORED


def test_pairs_that_contradict_each_other_decide_nothing():
    oblong, mask = case(1, width=80)
    stored = file(STORING[6](oblong), 6)
    pairs = [(stored, mask // 255), (stored, np.ascontiguousarray(STORING[6](mask)) // 255)]
    assert convention(pairs) is None


def test_what_nothing_decides_the_user_is_asked():
    mask = case()[1]
    flat = file(np.random.default_rng(0).integers(90, 110, (*mask.shape, 3), dtype=np.uint8), 3)
    with pytest.raises(ValueError, match=r"orientation 3\) and the mask fits both ways; say .* prepare.masks_on"):
        decode_pair(flat, png(mask), 127, 64, convention([(flat, mask // 255)]))
    for way in (SHOWN, STORED):
        decode_pair(flat, png(mask), 127, 64, way)


def test_many_pairs_decide_together_against_a_few_that_mislead():
    drawn = [draw(index, 96, seed=3) for index in range(12)]
    pairs = [(file(STORING[3](image), 3), mask // 255) for image, mask in drawn[:9]]
    pairs += [(file(image, 3), mask // 255) for image, mask in drawn[9:]]
    assert convention(pairs) == SHOWN


@pytest.mark.parametrize("number", [number for number in STORING if number > 1])
@pytest.mark.parametrize("way", [SHOWN, STORED, None])
def test_a_mask_that_its_exif_turns_as_the_image_belongs_to_it_as_stored(number, way):
    """As of a program that copies all of the image's tags; whatever other pairs say."""
    image, mask = case()
    stored, drawn = STORING[number](image), np.ascontiguousarray(STORING[number](mask))
    found = decode_pair(file(stored, number), file(drawn, number, "PNG"), 127, 64, way)
    expected = decode_pair(file(stored, 1), png(drawn), 127, 64)
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_array_equal(found.image, expected.image)


@pytest.mark.parametrize(("of_image", "of_mask"), [(1, 3), (1, 2), (3, 2), (6, 3)])
def test_a_mask_that_its_exif_turns_otherwise_is_refused(of_image, of_mask):
    image, mask = case()
    with pytest.raises(
        ValueError, match=rf"mask is turned by its EXIF \(orientation {of_mask}\) and the image otherwise"
    ):
        decode_pair(file(image, of_image), file(mask, of_mask, "PNG"), 127, 64, SHOWN)
