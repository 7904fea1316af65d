"""Decoding, resizing and what is written: against plain PIL, for every kind of file, and for any number of workers."""

import io
import json
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from hymunet.data.acquire.synthetic import draw
from hymunet.data.prepare.decode import VIEW, decode_pair, lesion_view, split_view
from hymunet.data.prepare.manifest import facts, read_manifest
from hymunet.data.prepare.prepare import prepare


def encoded(pixels, form="PNG", **options):
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def case():
    return draw(3, 320, seed=0)


def test_image_and_mask_agree_with_a_plain_reading(case):
    image, mask = case
    result = decode_pair(encoded(image), encoded(mask), 128, 64)
    np.testing.assert_allclose(result.image.astype(int), np.asarray(Image.fromarray(image).reduce(5)), atol=1)
    np.testing.assert_array_equal(result.mask, mask[2::5, 2::5] // 255)  # nearest: the middle of each 5×5 block
    assert (result.image.dtype, result.mask.dtype, result.view.shape) == (np.uint8, np.uint8, (VIEW, VIEW))


def test_a_large_jpeg_is_decoded_small_and_looks_the_same():
    """At nine times the size libjpeg decodes at 1/8; the result is that of full decoding within JPEG's own noise."""
    image, mask = draw(5, 256, seed=0)
    large, large_mask = (np.repeat(np.repeat(array, 9, 0), 9, 1) for array in (image, mask))
    jpeg = encoded(large, "JPEG", quality=95)
    reduced = decode_pair(jpeg, encoded(large_mask), 128, 256)
    full = cv2.resize(np.asarray(Image.open(io.BytesIO(jpeg))), (256, 256), interpolation=cv2.INTER_AREA)
    difference = abs(reduced.image.astype(int) - full)
    assert difference.mean() < 2
    assert np.percentile(difference, 99) < 12
    assert (reduced.facts["width"], reduced.facts["height"]) == (256 * 9, 256 * 9)


@pytest.mark.parametrize(("threshold", "expected"), [(127, [0, 1, 1]), (128, [0, 0, 1])])
def test_the_threshold_is_the_source_s(threshold, expected):
    """Where an edge holds values between."""
    mask = np.repeat(np.array([[0] * 40 + [127, 128, 129] + [255] * 53], np.uint8), 96, 0)
    found = decode_pair(encoded(np.zeros((96, 96, 3), np.uint8)), encoded(mask), threshold, 96).mask
    assert [found[48, column] for column in (40, 41, 42)] == expected


def test_masks_of_zeros_and_ones_are_understood_in_a_folder_of_one_s_own(case):
    image, mask = case
    ones = decode_pair(encoded(image), encoded(mask // 255), 127, 64)
    np.testing.assert_array_equal(ones.mask, decode_pair(encoded(image), encoded(mask), 128, 64).mask)


@pytest.mark.parametrize(
    ("mode", "form"), [("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("RGB", "TIFF")]
)
def test_every_colour_mode_becomes_rgb(case, mode, form):
    image, mask = case
    picture = Image.fromarray(image).convert(mode)
    result = decode_pair(encoded(picture, form), encoded(mask), 128, 64)
    expected = np.asarray(picture.convert("RGB").reduce(5)).astype(int)
    assert abs(result.image.astype(int) - expected).mean() < 4


def test_sixteen_bits_become_eight(case):
    image, mask = case
    deep = cv2.imencode(".png", image[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    plain = decode_pair(encoded(image), encoded(mask), 128, 64)
    assert abs(decode_pair(deep, encoded(mask), 128, 64).image.astype(int) - plain.image).max() <= 1


@pytest.mark.parametrize("drawn_on", ["the picture", "the stored pixels"])
def test_orientation_follows_the_mask(drawn_on):
    image, mask = draw(1, 320, seed=0)
    image, mask = image[:, :240], mask[:, :240]
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90°, to be shown turned back
    stored = encoded(np.ascontiguousarray(np.rot90(image)), "JPEG", quality=98, exif=exif)
    if drawn_on == "the picture":
        result = decode_pair(stored, encoded(mask), 128, 64)
        expected = decode_pair(encoded(image), encoded(mask), 128, 64)
    else:
        turned = np.ascontiguousarray(np.rot90(mask))
        result = decode_pair(stored, encoded(turned), 128, 64)
        expected = decode_pair(encoded(np.ascontiguousarray(np.rot90(image))), encoded(turned), 128, 64)
    np.testing.assert_array_equal(result.mask, expected.mask)
    assert abs(result.image.astype(int) - expected.image).mean() < 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_of_large_files_too_the_set_tells_what_masks_are_drawn_on(tmp_path, capsys, form):
    """WebP says how it is turned behind its pixels."""
    noise = np.random.default_rng(0).integers(-30, 30, (256, 256, 3))
    replaced = {}
    for index in range(2):
        exif = Image.Exif()
        exif[0x0112] = 3
        pixels = np.clip(draw(index, 256, seed=1)[0].astype(int) + noise, 0, 255).astype(np.uint8)
        options = {"lossless": True} if form == "WEBP" else {"quality": 100}
        stored = encoded(np.ascontiguousarray(pixels[::-1, ::-1]), form, exif=exif, **options)
        assert len(stored) > 2**16
        replaced[f"synthetic/images/case_{index:05}.png"] = stored
    prepare(raw_folder(tmp_path / "raw", 2, 256, replaced), tmp_path / "prepared", 64, "stop")
    assert "2 looked at); the masks are drawn on the image as shown" in capsys.readouterr().err


def bad_pairs():
    image, mask = draw(3, 64, seed=0)
    png, jpeg, right = encoded(image), encoded(image, "JPEG"), encoded(mask)
    tiny = np.zeros_like(mask)
    tiny[0, 0] = 255
    return {
        "image is an empty file": (b"", right),
        "image is not an image that can be decoded": (b"plain text", right),
        "image is a truncated or damaged JPEG": (jpeg[: len(jpeg) // 2], right),
        "image is a truncated or damaged PNG": (png[: len(png) // 2], right),
        "mask is a truncated or damaged PNG": (png, right[:-20]),
        "mask is empty": (png, encoded(np.zeros_like(mask))),
        "lesion of 1 pixels vanishes at 32×32; a larger image_size keeps it": (png, encoded(tiny)),
        "mask is all lesion": (png, encoded(np.full_like(mask, 255))),
        "image is 64×64, mask 32×64": (png, encoded(np.ascontiguousarray(mask[:, 16:48]))),
    }


@pytest.mark.parametrize("reason", bad_pairs())
def test_a_bad_pair_says_what_is_wrong(reason):
    with pytest.raises(ValueError, match=reason):
        decode_pair(*bad_pairs()[reason], 128, 32)


def raw_folder(folder, count=40, size=48, replaced=None):
    folder.mkdir()
    with zipfile.ZipFile(folder / "synthetic.zip", "w") as archive:
        for index in reversed(range(count)):
            for kind, pixels in zip(("images", "masks"), draw(index, size, seed=1), strict=True):
                name = f"synthetic/{kind}/case_{index:05}.png"
                archive.writestr(name, (replaced or {}).get(name, encoded(pixels)))
    (folder / "source.json").write_text(json.dumps({"source": "synthetic", "archives": [{"name": "synthetic.zip"}]}))
    return folder


OUTPUTS = ("images.npy", "masks.npy", "lesions.npy", "native_masks.zip", "manifest.parquet", "prepare.json")


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
    raw = raw_folder(tmp_path / "raw")
    for workers in (1, 3):
        prepare(raw, tmp_path / str(workers), 32, "stop", workers)
    for name in OUTPUTS:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes(), name
    rows = read_manifest(tmp_path / "1/manifest.parquet")
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    masks = np.load(tmp_path / "1/masks.npy")
    assert set(np.unique(masks)) == {0, 1}


def test_bad_pairs_are_reported_together_or_dropped_on_record(tmp_path):
    bad = {"synthetic/images/case_00003.png": b"text", "synthetic/masks/case_00007.png": b""}
    raw = raw_folder(tmp_path / "raw", replaced=bad)
    with pytest.raises(
        ValueError,
        match=r"2 of 40 pairs cannot be used; (.|\n)*case_00003.png: image is not.*\n.*case_00007.png: mask is",
    ):
        prepare(raw, tmp_path / "stop", 32, "stop", 2)
    assert list((tmp_path / "stop").iterdir()) == []
    prepare(raw, tmp_path / "drop", 32, "drop", 2)
    record = json.loads((tmp_path / "drop/prepare.json").read_text())
    assert (record["images"], sorted(record["dropped"])) == (38, ["case_00003", "case_00007"])
    good = raw_folder(tmp_path / "good")
    prepare(good, tmp_path / "all", 32, "stop", 2)
    for name in ("images.npy", "masks.npy", "lesions.npy"):
        kept = np.delete(np.load(tmp_path / "all" / name), [3, 7], axis=0)
        np.testing.assert_array_equal(np.load(tmp_path / "drop" / name), kept)


def test_an_image_without_a_lesion_is_prepared_where_that_is_allowed(case):
    """Also one that its EXIF turns and that is square: an empty mask lies rightly either way."""
    image, mask = case
    exif = Image.Exif()
    exif[0x0112] = 3
    empty, turned = encoded(np.zeros_like(mask)), encoded(image[::-1, ::-1].copy(), exif=exif)
    found = decode_pair(encoded(image), empty, 128, 64, empty=True)
    assert (found.mask.max(), found.native.max(), found.view.shape) == (0, 0, (VIEW, VIEW))
    assert {name: found.facts[name] for name in ("mask_area", "components", "holes", "touches_border")} == {
        **{"mask_area": 0.0, "components": 0, "holes": 0, "touches_border": False}
    }
    np.testing.assert_array_equal(decode_pair(turned, empty, 128, 64, empty=True).image, found.image)
    with pytest.raises(ValueError, match="mask is all lesion"):
        decode_pair(encoded(image), encoded(np.full_like(mask, 255)), 128, 64, empty=True)


ALL_12 = r"12 of 12 images are without a lesion.*; no image is left that shows one"
FEW = r"3 of 12 images are without a lesion, their masks are empty; prepare.max_wi"


@pytest.mark.parametrize(
    ("empty", "most", "on_bad_pair", "said"),
    [
        (
            3,
            0.0,
            "stop",
            r"3 of 12 .* used; .* how many at most: prepare.max_without_lesion:\n.*case_00000.png: mask is empty\n",
        ),
        (3, 0.0, "drop", None),
        (3, 0.2, "stop", rf"{FEW}thout_lesion allows 20.0%; export the masks again, or"),
        (3, 0.2, "drop", rf"{FEW}thout_lesion allows 20.0%"),
        (3, 0.25, "stop", None),
        (11, 1.0, "stop", None),
        (12, 1.0, "stop", ALL_12),
        (12, 1.0, "drop", ALL_12),
    ],
)
def test_so_many_images_are_without_a_lesion_as_is_allowed(tmp_path, capsys, empty, most, on_bad_pair, said):
    nothing = encoded(np.zeros((48, 48), np.uint8))
    replaced = {f"synthetic/masks/case_{index:05}.png": nothing for index in range(empty)}
    raw, output = raw_folder(tmp_path / "raw", 12, replaced=replaced), tmp_path / "prepared"
    if said:
        with pytest.raises(ValueError, match=said):
            prepare(raw, output, 32, on_bad_pair, max_without_lesion=most)
        assert list(output.iterdir()) == []
        return
    prepare(raw, output, 32, on_bad_pair, max_without_lesion=most)
    kept = empty if most else 0
    record = json.loads((output / "prepare.json").read_text())
    assert (record["images"], record.get("without_lesion", 0)) == (12 - empty + kept, kept)
    assert (np.load(output / "masks.npy").max((1, 2)) == 0).sum() == kept
    assert (f"{kept} of 12 images are without a lesion" in capsys.readouterr().err) == bool(kept)


def test_facts_count_components_holes_and_borders():
    mask = np.zeros((60, 80), np.uint8)
    mask[5:25, 5:25] = 1
    mask[10:15, 10:15] = 0  # a hole
    mask[40:60, 60:70] = 1  # touches the frame
    found = facts(b"image", b"mask", np.full((60, 80, 3), 200, np.uint8), mask)
    assert (found["components"], found["holes"], found["touches_border"], found["dark_corners"]) == (2, 1, True, 0)
    assert found["mask_area"] == pytest.approx(mask.mean())
    assert (found["width"], found["height"]) == (80, 60)


def test_the_view_holds_the_lesion_in_its_middle_at_any_size(case):
    image, mask = case
    views = [lesion_view(image, mask // 255), lesion_view(cv2.resize(image, (160, 160)), mask // 255)]
    for view in views:
        left, top, width, height = cv2.boundingRect(split_view(view)[1])
        assert max(width, height) == pytest.approx(VIEW / 1.5, abs=3)
        assert (left + width / 2, top + height / 2) == pytest.approx((VIEW / 2, VIEW / 2), abs=3)
    assert abs(views[0].astype(int) - views[1]).mean() < 6


@pytest.mark.parametrize("place", ["write_manifest", "atomic.write"])
def test_stopped_between_its_files_nothing_speaks_of_other_arrays(tmp_path, monkeypatch, place):
    for name, seed in (("old", 12), ("new", 14)):
        raw_folder(tmp_path / name, count=seed)
    prepare(tmp_path / "old", tmp_path / "prepared", 32, "stop")

    def stopped(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"hymunet.data.prepare.prepare.{place}", stopped)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path / "new", tmp_path / "prepared", 32, "stop")
    assert not (tmp_path / "prepared/prepare.json").exists()
    prepare(tmp_path / "new", tmp_path / "prepared", 32, "stop")
    assert len(read_manifest(tmp_path / "prepared/manifest.parquet")) == 14


@pytest.mark.parametrize(
    ("content", "said"),
    [
        *((text, "missing or unreadable") for text in ("", "{", "[1]", "7", '{"source": "folder"}')),
        ('{"source": "elsewhere", "archives": []}', "source 'elsewhere' is none of isic2018, "),
        ('{"source": [], "archives": []}', r"source \[\] is none of"),
    ],
)
def test_a_record_of_the_download_that_cannot_be_is_named(tmp_path, content, said):
    (tmp_path / "source.json").write_text(content)
    with pytest.raises(ValueError, match=rf"source.json: {said}.*; run the download step"):
        prepare(tmp_path, tmp_path / "prepared", 32, "stop")
