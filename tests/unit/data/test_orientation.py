"""Images that EXIF or AVIF's boxes turn, with masks drawn on what is shown or on what is stored: told or asked."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from hymunet.data.acquire.synthetic import draw
from hymunet.data.prepare.decode import decode_pair
from hymunet.data.prepare.masks import read_mask
from hymunet.data.prepare.orientation import FLAGS, SHOWN, STORED, convention
from hymunet.evaluation.folders import FolderCases
from hymunet.formats.orientation import cropped, orientation
from hymunet.images import rgb
from tests.support.image_files import STORING


def case(index=14, width=96):
    """An image and its mask, off the middle."""
    image, mask = draw(index, 128, seed=0)
    return np.ascontiguousarray(image[8:104, 8 : 8 + width]), np.ascontiguousarray(mask[8:104, 8 : 8 + width])


def file(pixels, number, form="JPEG"):
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a description before it", number
    buffer = io.BytesIO()
    good = {"quality": 98, "subsampling": 0} if form == "JPEG" else {"quality": 95}
    options = {"lossless": True} if form == "WEBP" else good if form in ("JPEG", "AVIF") else {}
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, form, exif=exif, **options)
    return buffer.getvalue()


def png(mask):
    return cv2.imencode(".png", np.ascontiguousarray(mask))[1].tobytes()


FORMS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", STORING)
def test_every_kind_of_file_is_shown_as_viewers_do_or_left_as_stored(form, number):
    image = case(width=80)[0]
    stored = np.ascontiguousarray(STORING[number](image))
    content = file(stored, number, form)
    assert orientation(content) == number
    for way, expected in ((SHOWN, image), (STORED, stored)):
        found = rgb(content, "x", FLAGS[way])
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).mean() < 3, way


def test_a_jpeg_s_filling_bytes_hide_nothing():
    content = file(STORING[6](case(width=80)[0]), 6)
    assert orientation(content[:2] + b"\xff\xff" + content[2:]) == 6


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", STORING)
def test_a_mask_s_pixels_are_taken_as_stored_from_every_kind_of_file(form, number):
    mask = np.ascontiguousarray(STORING[number](case(width=80)[1]))
    found = read_mask(file(mask, number, form))
    assert found.shape == mask.shape
    assert np.count_nonzero(found != mask // 255) <= (60 if form in ("JPEG", "AVIF") else 0)


DEPTHS = {
    "1 bit": lambda grey: grey > 127,
    "16 bits": lambda grey: grey.astype(np.uint16) * 257,
    "32 bits": lambda grey: grey.astype(np.int32),
    "float": lambda grey: grey.astype(np.float32),
    "alpha": lambda grey: np.dstack([grey, grey, grey, np.full_like(grey, 255)]),
}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("number", [3, 6])
def test_a_tiff_of_any_depth_is_turned_once(depth, number):
    """OpenCV turns it by itself, whatever it is asked."""
    mask = case(width=80)[1]
    stored = np.ascontiguousarray(STORING[number](mask))
    content = file(DEPTHS[depth](stored), number, "TIFF")
    for way, expected in ((SHOWN, mask), (STORED, stored)):
        np.testing.assert_array_equal(rgb(content, "x", FLAGS[way])[..., 0] > 127, expected > 0)
    np.testing.assert_array_equal(read_mask(content), stored // 255)


def boxed(content, kind, size, after=b"irot"):
    """An AVIF whose box irot is another: of the same length, or behind a longer head."""
    start = content.index(after) - 4
    assert content[start + 3] == size
    return content[: start + 4] + kind + content[start + 8 :]


def test_an_avif_that_is_to_be_cropped_is_refused_by_name():
    content = boxed(file(case()[0], 3, "AVIF"), b"clap", 9)
    assert cropped(content)
    with pytest.raises(ValueError, match="a.avif is an AVIF that says which part of it is to be shown"):
        rgb(content, "a.avif")


def test_an_avif_is_one_by_any_of_its_brands():
    image = case(width=80)[0]
    content = file(np.ascontiguousarray(image[::-1, ::-1]), 3, "AVIF")
    assert content[8:12] == b"avif"
    other = content[:8] + b"mif1" + content[12:]
    assert orientation(other) == 3
    assert np.abs(rgb(other, "x").astype(int) - image).mean() < 3


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"text", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"II*\0", b"MM\0*\0\0\0\x08"),
        *(file(case()[0], 3, "AVIF")[:length] for length in (24, 60, 100, 180, 240, 262)),
    ],
)
def test_what_cannot_be_understood_is_upright(content):
    assert orientation(content) == 1


@pytest.mark.parametrize("drawn_on", [SHOWN, STORED])
@pytest.mark.parametrize("number", [number for number in STORING if number > 1])
@pytest.mark.parametrize("width", [96, 80], ids=["square", "oblong"])
@pytest.mark.parametrize("form", ["JPEG", "TIFF", "AVIF"])
def test_image_and_mask_come_out_the_same_way_up(number, drawn_on, width, form):
    """Eight turns × two conventions × shapes × who turns: told by the shape, or by the set."""
    image, mask = case(width=width)
    stored = file(STORING[number](image), number, form)
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
        ValueError, match=rf"mask is turned by its EXIF .*\(orientation {of_mask}\) and the image otherwise"
    ):
        decode_pair(file(image, of_image), file(mask, of_mask, "PNG"), 127, 64, SHOWN)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
@pytest.mark.parametrize("way", [SHOWN, STORED, "by the mask's own EXIF"])
def test_files_in_folders_are_evaluated_as_the_pipeline_prepares_them(tmp_path, way, form, capsys):
    turn = STORING[3]
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for index in range(3):
        image, mask = case(index)
        drawn = png(mask if way == SHOWN else turn(mask))
        if way not in FLAGS:
            drawn = file(np.ascontiguousarray(turn(mask)), 3, "PNG")
        (tmp_path / f"images/{index}.img").write_bytes(file(turn(image), 3, form))
        (tmp_path / f"masks/{index}.png").write_bytes(drawn)
    cases = FolderCases.of_one(tmp_path, 64)
    for index in range(3):
        image, mask = case(index)
        stored = way != SHOWN
        expected = decode_pair(file(turn(image) if stored else image, 1), png(turn(mask) if stored else mask), 127, 64)
        np.testing.assert_array_equal(cases[index].truth, expected.mask)
        assert np.abs(cases[index].image.astype(int) - expected.image).mean() < 3
    if way in FLAGS:
        assert "evaluate: EXIF turns some images (3 looked at); the masks are drawn on" in capsys.readouterr().err


def test_an_evaluation_is_told_what_masks_are_drawn_on_where_nothing_tells(tmp_path):
    mask = case()[1]
    flat = file(np.random.default_rng(0).integers(90, 110, (*mask.shape, 3), dtype=np.uint8), 3)
    for part, content in (("images", flat), ("masks", png(mask))):
        (tmp_path / part).mkdir()
        (tmp_path / part / "1.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"the mask fits both ways; say .* \(hymunet evaluate: --masks-on\)"):
        FolderCases.of_one(tmp_path, 64)[0]
    for way in FLAGS:
        assert FolderCases.of_one(tmp_path, 64, way)[0].truth.any()
