"""Files as people have them: read rightly, or refused with the file's name and the reason."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from hymunet import images
from hymunet.data.acquire.synthetic import draw
from hymunet.data.prepare.decode import decode_pair

SCENE = draw(0, 96, 0)[0][:, :80]
GREY = cv2.cvtColor(SCENE, cv2.COLOR_RGB2GRAY)
GREY_SCENE = np.repeat(GREY[..., None], 3, 2)


def pillow(pixels, kind, mode=None, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def opencv(kind, pixels):
    return cv2.imencode(kind, pixels)[1].tobytes()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return pillow(SCENE, "JPEG", quality=95, subsampling=0, exif=exif)


def with_alpha():
    return np.dstack([SCENE, np.full(GREY.shape, 128, np.uint8)])


def several(kind, second, **options):
    return pillow(SCENE, kind, save_all=True, append_images=[Image.fromarray(second)], **options)


def netpbm(number, pixels, largest):
    """As the specification says: P1 to P3 in text, P4 to P6 binary; in bitmaps 1 is black."""
    scaled = np.rint(pixels / max(pixels.max(), 1) * largest if pixels.dtype == bool else pixels * (largest / 255))
    scaled = scaled.astype(int)
    head = b"P%d %d %d%s\n" % (number, *pixels.shape[1::-1], b"" if number in (1, 4) else b" %d" % largest)
    if number in (1, 4):
        scaled = 1 - scaled
    if number <= 3:
        return head + b"\n".join(b" ".join(b"%d" % value for value in row.ravel()) for row in scaled) + b"\n"
    if number == 4:
        return head + np.packbits(scaled.astype(np.uint8), axis=1).tobytes()
    return head + scaled.astype(">u2" if largest > 255 else np.uint8).tobytes()


DEEP = GREY.astype(np.uint16)
BGR = SCENE[..., ::-1]
READ = {  # the file's bytes, the picture in it, the tolerance
    "png": (opencv(".png", BGR), SCENE, 0),
    "png, palette": (pillow(GREY, "PNG", "P"), GREY_SCENE, 0),
    "png, alpha": (pillow(with_alpha(), "PNG"), SCENE, 0),
    "png, grey and alpha": (pillow(GREY, "PNG", "LA"), GREY_SCENE, 0),
    "png, 1 bit": (pillow(GREY > 99, "PNG"), np.where(GREY_SCENE > 99, 255, 0), 0),
    "png, 16 bits, full": (opencv(".png", BGR.astype(np.uint16) * 257), SCENE, 0),
    "png, 16 bits that hold 8": (opencv(".png", DEEP), GREY_SCENE, 0),
    "png, 16 bits that hold 10": (opencv(".png", DEEP << 2), GREY_SCENE, 0),
    "png, 16 bits that hold 12": (opencv(".png", BGR.astype(np.uint16) << 4), SCENE, 0),
    "png, 16 bits that hold 14": (opencv(".png", DEEP << 6), GREY_SCENE, 0),
    "tiff": (opencv(".tiff", BGR), SCENE, 0),
    "tiff, 16 bits": (opencv(".tiff", DEEP << 8), GREY_SCENE, 0),
    "tiff, colours in 16 bits": (opencv(".tiff", BGR.astype(np.uint16) * 257), SCENE, 0),
    "tiff, colours in 16 bits that hold 12": (opencv(".tiff", BGR.astype(np.uint16) << 4), SCENE, 0),
    "tiff, alpha of no kind": (opencv(".tiff", with_alpha()[..., [2, 1, 0, 3]]), SCENE, 0),
    "tiff, unassociated alpha, over black": (pillow(with_alpha(), "TIFF"), np.rint(SCENE * (128 / 255)), 1),
    "tiff, unassociated alpha that hides nothing": (pillow(SCENE, "TIFF", "RGBA"), SCENE, 0),
    "avif, alpha": (pillow(with_alpha(), "AVIF", quality=100, subsampling="4:4:4"), SCENE, 20),
    "tiff, 32 bits that hold 12": (pillow(DEEP.astype(np.int32) << 4, "TIFF"), GREY_SCENE, 0),
    "tiff, float in 0..1": (pillow(GREY.astype(np.float32) / 255, "TIFF"), GREY_SCENE, 0),
    "tiff, float in 0..255": (pillow(GREY.astype(np.float32), "TIFF"), GREY_SCENE, 0),
    "tiff, colours in float": (opencv(".tiff", BGR.astype(np.float32) / 255), SCENE, 0),
    "tiff, cmyk": (pillow(SCENE, "TIFF", "CMYK"), SCENE, 3),
    "jpeg": (pillow(SCENE, "JPEG", quality=95, subsampling=0), SCENE, 20),
    "jpeg, grey": (pillow(GREY, "JPEG", quality=95, subsampling=0), GREY_SCENE, 20),
    "jpeg, cmyk": (pillow(SCENE, "JPEG", "CMYK", quality=95, subsampling=0), SCENE, 16),
    "jpeg, progressive": (pillow(SCENE, "JPEG", quality=95, subsampling=0, progressive=True), SCENE, 20),
    "jpeg, upside down by exif": (turned(3), SCENE[::-1, ::-1], 20),
    "jpeg, on its side by exif": (turned(6), SCENE.transpose(1, 0, 2)[:, ::-1], 20),
    "jpeg, with a film behind its end": (
        pillow(SCENE, "JPEG", quality=95, subsampling=0) + bytes(range(256)) * 20,
        SCENE,
        20,
    ),
    "png, with something behind its end": (opencv(".png", BGR) + b"x" * 4000, SCENE, 0),
    "webp": (pillow(SCENE, "WEBP", lossless=True), SCENE, 0),
    "gif": (pillow(GREY, "GIF"), GREY_SCENE, 0),
    "bmp": (opencv(".bmp", BGR), SCENE, 0),
    "jpeg 2000": (pillow(SCENE, "JPEG2000"), SCENE, 0),
    "ppm": (opencv(".ppm", BGR), SCENE, 0),
    "ppm, 12 bits": (
        b"P6 %d %d 4095\n" % SCENE.shape[1::-1] + (SCENE.astype(np.uint16) << 4).astype(">u2").tobytes(),
        SCENE,
        0,
    ),
    **{
        f"{name}, {words}, up to {largest}": (netpbm(number, of, largest), picture, 255 // (2 * min(largest, 255)) + 1)
        for name, numbers, of, picture in (("pgm", (5, 2), GREY, GREY_SCENE), ("ppm", (6, 3), SCENE, SCENE))
        for words, number in zip(("binary", "in text"), numbers, strict=True)
        for largest in (1, 15, 100, 254, 255, 1023, 4095, 40000, 65535)
    },
    "pbm": (netpbm(4, GREY > 99, 1), np.where(GREY_SCENE > 99, 255, 0), 0),
    "pbm in text": (netpbm(1, GREY > 99, 1), np.where(GREY_SCENE > 99, 255, 0), 0),
    "pbm in text without spaces": (
        netpbm(1, GREY > 99, 1).replace(b" ", b"").replace(b"P18096", b"P1 80 96"),
        np.where(GREY_SCENE > 99, 255, 0),
        0,
    ),
    "pgm with comments": (
        netpbm(5, GREY, 255).replace(b"P5 80", b"P5 # made by 2 5 9\n# 7\n80 # wide\r"),
        GREY_SCENE,
        0,
    ),
    "tiff, with a preview": (several("TIFF", SCENE[::8, ::8].copy()), SCENE, 0),
    "tiff, the same twice": (several("TIFF", SCENE), SCENE, 0),
}


@pytest.mark.parametrize("kind", READ)
def test_every_kind_of_file_gives_its_picture(kind, tmp_path, capfd):
    content, expected, tolerance = READ[kind]
    (tmp_path / "lesion").write_bytes(content)
    found = images.read(tmp_path / "lesion")
    images.check(found)
    np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=tolerance)
    assert capfd.readouterr().err == ""


def damaged(content, part=0.5):
    """Fifty bytes in the middle replaced."""
    middle = int(len(content) * part)
    noise = np.random.default_rng(0).integers(0, 255, 50, np.uint8).tobytes()
    return content[:middle] + noise + content[middle + 50 :]


def damaged_checksum(content):
    """Pixels exchanged within a PNG's stored data, its own check sum kept: only the chunk's tells."""
    return content.replace(b"tEXtk\0v", b"tEXtk\0w")


def commented():
    content, text = opencv(".png", BGR), b"tEXtk\0v"
    return content[:33] + struct.pack(">I", 3) + text + struct.pack(">I", zlib.crc32(text)) + content[33:]


BAD_JPEG, BAD_PNG, NONE = (
    "is a truncated or damaged JPEG",
    "is a truncated or damaged PNG",
    "is not an image that can be",
)
REFUSED = {
    "nothing": (b"", "is an empty file"),
    "text": (b"not an image", "is not an image that can be decoded; read are JPEG, PNG, .* HEIC or DICOM$"),
    "jpeg xl": (b"\xff\x0a" + bytes(60), "is not an image that can be decoded; read are JPEG"),
    "html": (b"<!doctype html><title>404</title>", NONE),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', NONE),
    "jpeg, cut": (READ["jpeg"][0][:-50], BAD_JPEG),
    "jpeg, its start alone": (images.JPEG, BAD_JPEG),
    "jpeg, cut and closed": (READ["jpeg"][0][:-200] + b"\xff\xd9", BAD_JPEG),
    "jpeg, damaged in the middle": (damaged(READ["jpeg"][0]), BAD_JPEG),
    "jpeg, zeros in the middle": (READ["jpeg"][0][:2500] + bytes(len(READ["jpeg"][0]) - 2502) + b"\xff\xd9", BAD_JPEG),
    "jpeg, cmyk, damaged": (damaged(READ["jpeg, cmyk"][0]), BAD_JPEG),
    "jpeg, progressive, cut": (READ["jpeg, progressive"][0][:3000], BAD_JPEG),
    "png, its start alone": (images.PNG, BAD_PNG),
    "png, cut": (READ["png"][0][:-20], BAD_PNG),
    "png, cut within a chunk's head": (READ["png"][0][:-6], BAD_PNG),
    "png, damaged in the middle": (damaged(READ["png"][0]), BAD_PNG),
    "png, a damaged comment": (damaged_checksum(commented()), BAD_PNG),
    "bmp, cut": (READ["bmp"][0][:9000], "begins as .bmp does, and is cut off, damaged or"),
    "tiff, cut": (READ["tiff"][0][:2000], "begins as .tif does, and is cut off, damaged or"),
    "gif, cut": (READ["gif"][0][:2000], NONE),
    "webp, cut": (READ["webp"][0][:2000], NONE),
    "tiff, not a number": (pillow(np.full((9, 9), np.nan, np.float32), "TIFF"), "holds float32 values from nan to nan"),
    "tiff, float, negative": (pillow(np.eye(9, dtype=np.float32) - 1, "TIFF"), "float32 values from -1 to 0"),
    "tiff, float, too high": (pillow(np.eye(9, dtype=np.float32) * 999, "TIFF"), "float32 values from 0 to 999"),
    "tiff, 32 bits, negative": (pillow(np.eye(9, dtype=np.int32) - 1, "TIFF"), "int32 values from -1 to 0"),
    **{
        f"{kind.lower()}, several": (several(kind, SCENE[::-1].copy()), "holds several pictures .* save the one")
        for kind in ("TIFF", "GIF", "PNG", "WEBP", "AVIF")
    },
    "pgm, cut": (netpbm(5, GREY, 255)[:-9], r"is a truncated PGM \(it ends early, 7,671 of 7,680\)"),
    "pgm, 16 bits, cut": (netpbm(5, GREY, 4095)[:9000], "is a truncated PGM"),
    "pgm in text, cut": (netpbm(2, GREY, 255)[:9000], "is a truncated PGM"),
    "pbm, cut": (netpbm(4, GREY > 99, 1)[:300], "is a truncated PBM"),
    "ppm, its head alone": (b"P6\n80 96\n", r"is a damaged PPM \(its head is not whole\)"),
    "ppm of no width": (b"P6 0 9 255\n", "is a PPM of 0×9 pixels"),
    "pgm of 17 bits": (b"P5 1 1 70000\n1234", "with values to 70000; sides .* values within 65535"),
    "pgm, above its own largest": (b"P5 2 1 15\n\x0f\x10", "holds 16 and says its largest value is 15"),
    "pgm in text, no numbers": (b"P2 2 1 15\n1 x", r"is a damaged PGM \(not numbers alone\)"),
    "pgm, several": (2 * netpbm(5, GREY, 255), "holds several pictures"),
    "tiff, 32 bits, too high": (pillow(np.eye(9, dtype=np.int32) << 20, "TIFF"), "must be in 0..65535"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_whole_image_is_refused_by_name(kind, tmp_path, capfd):
    content, reason = REFUSED[kind]
    (tmp_path / "lesion").write_bytes(content)
    with pytest.raises(ValueError, match=reason) as refusal:
        images.read(tmp_path / "lesion")
    assert str(refusal.value).startswith(str(tmp_path / "lesion"))
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr().err == "", "the one line is the error's; OpenCV and libjpeg say nothing beside it"


def random_image(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(50, 70), (20, 70), (20, 24)])
def test_images_are_resized_as_in_the_prepared_set(size):
    image = random_image(*size)
    mask = np.zeros(size, np.uint8)
    mask[3:9, 3:9] = 255
    prepared = decode_pair(opencv(".png", image[..., ::-1]), opencv(".png", mask), 127, 32)
    np.testing.assert_array_equal(prepared.image, images.resize(image, 32))


def test_a_large_jpeg_looks_to_the_model_as_in_the_prepared_set(tmp_path):
    image, mask = draw(0, 1100, 0)
    jpeg = opencv(".jpg", image[..., ::-1])
    (tmp_path / "image.jpg").write_bytes(jpeg)
    prepared = decode_pair(jpeg, opencv(".png", mask), 127, 64).image.astype(int)
    difference = np.abs(images.resize(images.read(tmp_path / "image.jpg"), 64) - prepared)
    assert difference.mean() < 1
    assert difference.max() <= 8


@pytest.mark.parametrize("kind", ["png, 16 bits that hold 12", "tiff, float in 0..1", "jpeg, damaged in the middle"])
def test_the_prepared_set_takes_the_same_files(kind):
    mask = opencv(".png", (GREY < 99).astype(np.uint8) * 255)
    if kind in REFUSED:
        with pytest.raises(ValueError, match=f"image {REFUSED[kind][1]}"):
            decode_pair(REFUSED[kind][0], mask, 127, 32)
    else:
        expected = images.resize(READ[kind][1], 32)
        np.testing.assert_array_equal(decode_pair(READ[kind][0], mask, 127, 32).image, expected)
