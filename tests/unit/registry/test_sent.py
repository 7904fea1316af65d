"""What is sent to a registered model: every form of the same image gives the same pixels; all else is named."""

import base64
import struct

import numpy as np
import pytest

from hymunet import images
from hymunet.registry.sent import MAX_PIXELS, pixels
from tests.support.image_files import bad, good, png_of

FILES = good()
BAD = bad()
TAKEN = ("PNG", "JPEG")
PHOTO = images.rgb(FILES["PNG"], "the PNG")


def text(content):
    return base64.b64encode(content).decode()


def objects(*elements):
    found = np.empty(len(elements), object)
    found[:] = elements
    return found


FORMS = {  # the PNG's image, in every way that it may come
    "an array": PHOTO[None],
    "arrays in an array": objects(PHOTO),
    "JSON's lists, as MLflow makes them": np.array(PHOTO[None].tolist(), dtype=object),
    "lists": [PHOTO.tolist()],
    "whole numbers with a point": [PHOTO.astype(float).tolist()],
    "fractions, which are cut off": [(PHOTO * 0.999 + 0.001).tolist()],
    "bytes": objects(FILES["PNG"]),
    "base64": objects(text(FILES["PNG"])),
    "base64 of MLflow's rows": objects(np.array(text(FILES["PNG"]), dtype=object)),
    "numpy's text": np.array([text(FILES["PNG"])]),
    "numpy's bytes": np.array([FILES["PNG"]]),
    "base64 with line breaks": [base64.encodebytes(FILES["PNG"]).decode()],
    "a data URL": ["data:image/png;base64," + text(FILES["PNG"])],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_image_gives_its_pixels(form):
    (found,) = pixels(FORMS[form])
    expected = (PHOTO * 0.999 + 0.001).astype(np.uint8) if form.startswith("fractions") else PHOTO
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "name", [name for name in FILES if any(kind in name for kind in TAKEN) or name in ("a line", "one pixel", "large")]
)
def test_png_and_jpeg_of_every_kind_are_read_as_everywhere(name):
    (found,) = pixels([text(FILES[name])])
    np.testing.assert_array_equal(found, images.rgb(FILES[name], name))


def test_images_of_several_sizes_and_forms_come_in_order():
    sent = np.array([PHOTO.tolist(), text(FILES["a line"]), PHOTO[:20].tolist()], dtype=object)
    assert [found.shape for found in pixels(sent)] == [PHOTO.shape, (1, 700, 3), (20, *PHOTO.shape[1:])]


@pytest.mark.parametrize("other", [PHOTO[:20], PHOTO[:, :20], PHOTO[:20, :20]])
def test_lists_of_any_sizes_come_as_mlflow_makes_arrays_of_them(other):
    sent = np.array([PHOTO.tolist(), other.tolist()], dtype=object)
    for found, expected in zip(pixels(sent), (PHOTO, other), strict=True):
        np.testing.assert_array_equal(found, expected)


def declaring(jpeg, width, height, before=b""):
    """The JPEG with other sizes in its frame, and with segments before everything else."""
    frame = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:2] + before + jpeg[2:frame] + struct.pack(">HH", height, width) + jpeg[frame + 4 :]


def lying(jpeg, width, height):
    """A reader that took a lone marker for a segment would jump to a frame of one pixel, and miss the true one."""
    true = declaring(jpeg, width, height)
    jumped = true[:2] + b"\xff\xd0" + true[2:]
    place = 4 + struct.unpack(">H", jumped[4:6])[0]
    return jumped.ljust(place, b"\0")[:place] + b"\xff\xc0\0\x11\x08\0\1\0\1\3" + jumped[place:]


def marked(jpeg):
    """JFIF of an unknown revision, of which libjpeg-turbo warns, so that it gives no size."""
    return jpeg.replace(b"JFIF\0\1", b"JFIF\0\x09")


JPEG = FILES["JPEG"]
MALFORMED = {  # what is sent -> words of the refusal
    "a file's name": (["lesion.jpg"], "image 0 is the text 'lesion.jpg', which is no base64"),
    "numpy's text": (np.array(["lesion.jpg"]), "image 0 is the text 'lesion.jpg', which is no base64"),
    "long text": (["ä" * 99], "image 0 is the text 'ä{40}…', which is no base64"),
    "base64 that was cut": ([text(JPEG)[:101]], r"/9j/.{36}…', which is no base64"),
    "a word that is base64": (["lesions1"], "neither PNG nor JPEG"),
    "no text": ([""], "image 0 is empty"),
    "base64 of nothing": (["data:image/png;base64,"], "image 0 is empty"),
    "the second": ([text(JPEG), "?"], "image 1 is the text '[?]', which is no base64"),
    "a number": ([7], r"image 0: an image must be uint8 RGB of shape \(height, width, 3\), not uint8 \(\)"),
    "nothing": ([None], "image 0 is no image but 'None'"),
    "a record": ([{"b64": ""}], "image 0 is no image but"),
    "true": ([[[[True, False, True]]]], "image 0 is no image but"),
    "numbers as text": ([[[["1", "2", "3"]]]], "image 0 is no image but"),
    "grey": ([[[1, 2], [3, 4]]], r"not uint8 \(2, 2\)"),
    "four channels": ([[[[9, 9, 9, 9]]]], r"not uint8 \(1, 1, 4\)"),
    "no pixel": ([[[]]], "image 0: an image must be uint8 RGB"),
    "lists of unequal lengths": ([[[[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]]], "lists of unequal lengths"),
    "fractions of 1": ([[[[0.5, 0.1, 0.9]]]], "image 0 holds no value from 3 to 252"),
    "beyond 255": ([[[[300, 10, 10]]]], "image 0 holds values from 10 to 300; pixels are whole numbers from 0 to 255"),
    "below 0": ([[[[-1, 10, 10]]]], "values from -1 to 10"),
    "not a number": ([[[[float("nan"), 10, 10]]]], "values from nan"),
    "infinite": ([[[[float("inf"), 10, 10]]]], "to inf"),
    "more digits than a float has": ([[[[10**400, 10, 10]]]], "more than 308 digits"),
    "an array of fractions": (np.linspace(0, 1, 192).reshape(1, 8, 8, 3), r"not float64 \(8, 8, 3\)"),
    "an array of 16 bits": (np.full((1, 8, 8, 3), 99, np.uint16), r"not uint16 \(8, 8, 3\)"),
    "a PNG just too large": (
        [text(png_of(10_000, 5_001))],
        f"image 0 declares 50010000 pixels; .* {MAX_PIXELS} together",
    ),
    "files that are too large together": (
        [text(FILES["large"]), text(png_of(7_000, 7_000))],
        "images 0 to 1 declare 50650000 pixels",
    ),
    "a JPEG that is too large": ([declaring(JPEG, 30_000, 30_000)], "image 0 declares 900000000 pixels"),
    "one behind a comment": ([declaring(JPEG, 30_000, 30_000, b"\xff\xfe\0\4ab\xff")], "900000000 pixels"),
    "one whose head is no standard's": ([declaring(marked(JPEG), 30_000, 30_000)], "900000000 pixels"),
    "one that hides its size": ([lying(JPEG, 30_000, 30_000)], "truncated or damaged|a damaged head"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_no_image_is_named_with_what_would_be_right(case):
    sent, reason = MALFORMED[case]
    with pytest.raises(ValueError, match=reason) as refused:
        pixels(sent)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused(name):
    with pytest.raises(ValueError, match="^image 0 "):
        pixels([text(BAD[name][0])])
