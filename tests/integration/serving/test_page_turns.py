"""The picture under the outline is the one that was segmented, whatever the file says of its way up and the browser
makes of that."""

import base64

import cv2
import numpy as np
import pytest
from PIL import Image

from hymunet import images
from tests.support.image_files import STORING, encoded, good
from tests.support.serving_page import ALL_DONE, TEXT, canvas, choose_view, file

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
FORMS = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"quality": 95},
    "lossless WEBP": {"lossless": True},
    "TIFF": {},
}


def quarters() -> np.ndarray:
    """uint8 (48, 64, 3), a colour in each quarter: no turn of it is another."""
    shown = np.zeros((48, 64, 3), np.uint8)
    shown[:24, :32], shown[:24, 32:], shown[24:, :32], shown[24:, 32:] = (
        (200, 40, 40),
        (40, 200, 40),
        (40, 40, 200),
        200,
    )
    return shown


def turned(form: str, number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = number
    stored = Image.fromarray(np.ascontiguousarray(STORING[number](quarters())))
    return encoded(stored, form.split()[-1], exif=exif, **FORMS[form])


def way_up(pixels: np.ndarray) -> int:
    """EXIF's number of the turn that the pixels, RGB with or without an outline, are nearest to; 1 is upright."""
    turns = {number: turn(quarters()).astype(int) for number, turn in STORING.items()}
    apart = {
        number: np.abs(turn - pixels[..., :3]).mean()
        for number, turn in turns.items()
        if turn.shape[:2] == pixels.shape[:2]
    }
    return min(apart, key=apart.__getitem__)


def with_exif_behind_the_pixels(png: bytes) -> bytes:
    start = png.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(png[start : start + 4], "big")
    return png[:start] + png[end:-12] + png[start:end] + png[-12:]


RARE = {  # where decoders that turn a format agree least
    "PNG, EXIF behind the pixels": with_exif_behind_the_pixels(turned("PNG", 6)),
    "JPEG, the number as LONG": turned("JPEG", 6).replace(
        b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00", b"\x01\x12\x00\x04\x00\x00\x00\x01\x00\x00\x00\x06"
    ),
    "BMP, which holds none": encoded(Image.fromarray(quarters()), "BMP"),
}


def test_the_rare_ones_are_what_they_are_called():
    assert len(set(RARE.values()) | {turned("JPEG", 6), turned("PNG", 6)}) == 5


@pytest.mark.parametrize("form", [*FORMS, "rare"])
def test_the_picture_under_the_outline_is_the_one_that_was_segmented(page, tmp_path, form):
    contents = list(RARE.values()) if form == "rare" else [turned(form, number) for number in STORING]
    page.choose("#files", *(file(tmp_path, f"{place}.bin", content) for place, content in enumerate(contents)))
    page.until(f"document.querySelectorAll('#list li').length === {len(contents)} && {ALL_DONE}")
    for place, content in enumerate(contents):
        page.evaluate(f"document.querySelectorAll('#list button')[{place}].click()")
        assert page.evaluate(TEXT.format("name")) == f"{place}.bin"
        segmented = images.rgb(content, "it")
        choose_view(page, "original")
        found = canvas(page)
        assert found.shape[:2] == segmented.shape[:2], place
        assert np.abs(found[..., :3].astype(int) - segmented).mean() < 8, (place, way_up(found))
        choose_view(page, "overlay")
        assert way_up(canvas(page)) == way_up(segmented), place


@pytest.mark.parametrize("number", [2, 3, 6])
def test_a_saved_picture_is_the_one_that_was_segmented(page, tmp_path, number):
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.choose("#files", file(tmp_path, f"{number}.webp", turned("lossless WEBP", number)))
    page.until(f"document.querySelectorAll('#list li').length === 1 && {ALL_DONE}")
    page.evaluate("document.querySelector('[data-save=overlay]').click()")
    target = tmp_path / f"{number}_outline.png"
    page.until(f"{TEXT.format('status')}.includes('{target.name} saved')")
    for _ in range(200):
        if target.exists():
            break
        page.evaluate("new Promise((resolve) => setTimeout(resolve, 50))")
    assert way_up(images.read(target)) == 1


@pytest.mark.parametrize("name", ["JPEG turned by EXIF", "16-bit PNG", "PNG with alpha", "CMYK JPEG", "TIFF"])
def test_the_picture_of_an_answer_is_what_was_segmented(server, name):
    found = server.post(good()[name], query="?output=all").json()
    picture, segmented = images.rgb(base64.b64decode(found["image_jpeg"]), "it"), images.rgb(good()[name], "it")
    assert picture.shape == segmented.shape
    assert np.abs(picture.astype(int) - segmented).mean() < 6


def test_a_picture_longer_than_a_jpeg_may_be_is_sent_smaller(server):
    line = cv2.imencode(".png", np.full((3, 70_000, 3), 90, np.uint8))[1].tobytes()
    found = server.post(line, query="?output=all").json()
    assert (found["width"], found["height"]) == (70_000, 3)
    assert images.rgb(base64.b64decode(found["image_jpeg"]), "it").shape == (3, 65_500, 3)
