"""HEIC and DICOM through the one reader of images: the picture, or a reason in one line."""

import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from hymunet.data.acquire.synthetic import draw
from hymunet.data.prepare.decode import decode_pair
from hymunet.data.prepare.masks import read_mask
from hymunet.formats.extra import as_png
from hymunet.formats.kinds import is_heic
from hymunet.images import rgb

IMAGE, MASK = draw(3, 64, seed=1)
GREY = cv2.cvtColor(IMAGE, cv2.COLOR_RGB2GRAY)


def heic(pixels=IMAGE, quality=-1, **options):
    library = pytest.importorskip("pillow_heif", reason="pip install 'hymunet[formats]'")
    buffer = io.BytesIO()
    library.from_pillow(Image.fromarray(pixels)).save(buffer, quality=quality, **options)
    return buffer.getvalue()


def dicom(pixels, photometric, bits=None, compress=False, **more):
    library = pytest.importorskip("pydicom", reason="pip install 'hymunet[formats]'")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["x"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    record = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    record.SOPClassUID, record.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    frames = more.pop("frames", 1)
    record.Rows, record.Columns = pixels.shape[:2]
    record.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    record.PhotometricInterpretation = photometric
    record.BitsAllocated = 8 * pixels.dtype.itemsize
    record.BitsStored = bits or record.BitsAllocated
    record.HighBit = record.BitsStored - 1
    record.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        record.PlanarConfiguration = 0
    if frames > 1:
        record.NumberOfFrames = frames
    record.PixelData = pixels.tobytes() * frames
    for name, value in more.items():
        setattr(record, name, value)
    if compress:
        record.compress(RLELossless)
    buffer = io.BytesIO()
    library.dcmwrite(buffer, record, enforce_file_format=True)
    return buffer.getvalue()


TWELVE = GREY.astype(np.uint16) << 4
READ = {  # the file -> the picture in it, and how far the values may be off
    "HEIC": (lambda: heic(quality=95), IMAGE, 6),
    "HEIC in grey": (lambda: heic(GREY, quality=95), GREY, 4),
    "DICOM in colours": (lambda: dicom(IMAGE, "RGB"), IMAGE, 0),
    "DICOM in colours, packed": (lambda: dicom(IMAGE, "RGB", compress=True), IMAGE, 0),
    "DICOM in YCbCr": (
        lambda: dicom(cv2.cvtColor(IMAGE, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]].copy(), "YBR_FULL"),
        IMAGE,
        3,
    ),
    "DICOM in grey": (lambda: dicom(GREY, "MONOCHROME2"), GREY, 0),
    "DICOM in grey, bright for dark": (lambda: dicom(255 - GREY, "MONOCHROME1"), GREY, 0),
    "DICOM of 12 bits": (lambda: dicom(TWELVE, "MONOCHROME2", 12), GREY, 1),
    "DICOM through a window": (
        lambda: dicom(TWELVE, "MONOCHROME2", 12, WindowCenter=2048, WindowWidth=4096),
        GREY,
        2,
    ),
}


@pytest.mark.parametrize("kind", READ)
def test_the_picture_is_read(kind):
    make, pixels, tolerance = READ[kind]
    found = rgb(make(), kind).astype(int)
    expected = np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() <= tolerance


@pytest.mark.parametrize("image", [lambda: heic(quality=95), lambda: dicom(IMAGE, "RGB")], ids=["HEIC", "DICOM"])
def test_a_pair_is_prepared_as_any_other(image):
    done, mask = cv2.imencode(".png", MASK)
    assert done
    prepared = decode_pair(image(), mask.tobytes(), 127, 32)
    assert np.abs(prepared.image.astype(int) - cv2.resize(IMAGE, (32, 32), interpolation=cv2.INTER_AREA)).mean() < 4
    assert (prepared.facts["width"], prepared.facts["height"]) == (64, 64)


def test_a_mask_in_dicom_is_one():
    np.testing.assert_array_equal(read_mask(dicom(MASK // 255, "MONOCHROME2")), MASK // 255)


def test_a_heic_that_is_to_be_turned_comes_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = heic(IMAGE[:40], 95, exif=exif.tobytes())
    shown, stored = (rgb(content, "x", flag) for flag in (0, cv2.IMREAD_IGNORE_ORIENTATION))
    assert shown.shape == (64, 40, 3)
    np.testing.assert_array_equal(shown, stored)


REFUSED = {
    "a HEIC cut off": (lambda: heic()[:-200], "a truncated or damaged HEIC"),
    "a HEIC's head": (lambda: heic()[:100], "a truncated or damaged HEIC"),
    "a DICOM cut off": (lambda: dicom(IMAGE, "RGB")[:-2000], "a DICOM that cannot be read"),
    "a film": (lambda: dicom(GREY, "MONOCHROME2", frames=3), "a DICOM of 3 frames; expected one image"),
    "signed values": (lambda: dicom(GREY.astype(np.int16) - 100, "MONOCHROME2"), "measured values"),
    "rescaled values": (
        lambda: dicom(TWELVE, "MONOCHROME2", 12, RescaleSlope=1, RescaleIntercept=-1024),
        "convert it to PNG with the window",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_picture_or_not_whole_is_refused_by_name(kind):
    make, reason = REFUSED[kind]
    with pytest.raises(ValueError, match=f"^a.img is {reason}|^a.img is .*{reason}") as refusal:
        rgb(make(), "a.img")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "module", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0heicmif1", "pillow_heif", "a HEIC file, which the package pillow-heif reads"),
        (bytes(128) + b"DICM" + bytes(20), "pydicom", "a DICOM file, which the package pydicom reads"),
    ],
)
def test_where_the_extra_is_missing_it_is_named(content, module, words, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=f"x is {words}; pip install 'hymunet\\[formats\\]', or convert"):
        rgb(content, "x")


def test_avif_and_others_are_left_to_opencv():
    avif = b"\0\0\0\x1cftypavif\0\0\0\0mif1avif"
    assert not is_heic(avif)
    assert as_png(avif, "x") is avif
    assert not is_heic(b"\xff\xd8\xff")
