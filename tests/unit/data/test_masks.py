"""Masks as people have them: file kinds × depths × values, read rightly or refused with the values found."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from hymunet.data.prepare.masks import read_mask

SHAPE = (64, 80)
LESION = np.zeros(SHAPE, bool)
cv2.ellipse(inked := np.zeros(SHAPE, np.uint8), (38, 30), (22, 14), 20, 0, 360, 1, -1)
LESION |= inked > 0
RING = cv2.dilate(inked, np.ones((7, 7), np.uint8)).astype(bool) & ~LESION
THIN = cv2.dilate(inked, np.ones((3, 3), np.uint8)).astype(bool) & ~LESION
SPOT = np.zeros(SHAPE, bool)
SPOT[4:12, 60:70] = True


def values(kind, background=0, lesion=255, **others):
    """An array of these values; others: name of an area -> its value."""
    pixels = np.full(SHAPE, background, kind)
    for name, value in others.items():
        pixels[{"ring": RING, "thin": THIN, "spot": SPOT}[name]] = value
    pixels[LESION] = lesion
    return pixels


def file(pixels, form="PNG", mode=None, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, form, **options)
    return buffer.getvalue()


def opencv(form, pixels):
    return cv2.imencode(form, pixels)[1].tobytes()


def palette(*colours, **areas):
    """A PNG of indices with these colours; areas: as of `values`, their indices."""
    image = Image.fromarray(values(np.uint8, 0, 1, **areas), "P")
    image.putpalette([part for colour in colours for part in colour])
    return file(image)


def colours(background, lesion, **others):
    planes = [
        values(np.uint8, *pair, **{name: value[i] for name, value in others.items()})
        for i, pair in enumerate(zip(background, lesion, strict=True))
    ]
    return np.dstack(planes)


PLAIN = values(np.uint8)
ALPHA = np.dstack([np.full((*SHAPE, 3), 200, np.uint8), PLAIN])
SMOOTH = cv2.resize(
    cv2.resize(PLAIN, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST), SHAPE[::-1], interpolation=cv2.INTER_AREA
)
HALVED = cv2.resize(
    cv2.resize(PLAIN, (161, 127), interpolation=cv2.INTER_NEAREST), SHAPE[::-1], interpolation=cv2.INTER_AREA
)
BLACK, WHITE, RED, GREY = (0, 0, 0), (255, 255, 255), (128, 0, 0), (192, 224, 224)


def once(pixels, quality, form=".png", half=False):
    """What was a JPEG once, saved again without loss."""
    found = cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_UNCHANGED)
    return opencv(form, cv2.resize(found, SHAPE[::-1], interpolation=cv2.INTER_AREA) if half else found)


def larger(pixels, times=4):
    return cv2.resize(pixels, None, fx=times, fy=times, interpolation=cv2.INTER_NEAREST)


def several(kind):
    pages = [Image.fromarray(page) for page in (PLAIN, np.roll(PLAIN, 9, 1))]
    buffer = io.BytesIO()
    pages[0].convert("RGB").save(buffer, kind, save_all=True, append_images=[pages[1].convert("RGB")])
    return buffer.getvalue()


READ = {
    "png, 1 bit": file(LESION),
    "png, 8 bits, 0 and 255": file(PLAIN),
    "png, 8 bits, 0 and 1": file(values(np.uint8, 0, 1)),
    "png, 16 bits, 0 and 65535": opencv(".png", values(np.uint16, 0, 65535)),
    "png, 16 bits, 0 and 255": opencv(".png", values(np.uint16, 0, 255)),
    "png, 16 bits, 0 and 1": opencv(".png", values(np.uint16, 0, 1)),
    "png, colours that are greys": file(PLAIN, mode="RGB"),
    "png, colours of 0 and 1": opencv(".png", np.dstack([values(np.uint8, 0, 1)] * 3)),
    "png, black and red": file(colours(BLACK, RED)),
    "png, black and blue": file(colours(BLACK, (0, 0, 255))),
    "png, palette, black and white": palette(BLACK, WHITE),
    "png, palette, black and dark red": palette(BLACK, RED),
    "png, palette, grey": file(PLAIN, mode="P"),
    "png, grey and full alpha": file(PLAIN, mode="LA"),
    "png, colours and full alpha": file(PLAIN, mode="RGBA"),
    "png, in the alpha": file(ALPHA),
    "png, in colours and alpha alike": file(np.dstack([colours(BLACK, WHITE), PLAIN])),
    "png, edges smoothed": file(SMOOTH),
    "png, edges of a smaller copy": file(HALVED),
    "png, interlaced by another program": opencv(".png", PLAIN),
    "bmp": file(PLAIN, "BMP"),
    "bmp, 1 bit": file(LESION, "BMP"),
    "gif": file(PLAIN, "GIF"),
    "gif, 0 and 1": file(values(np.uint8, 0, 1), "GIF"),
    "tiff": file(PLAIN, "TIFF"),
    "tiff, 1 bit": file(LESION, "TIFF"),
    "tiff, 16 bits, 0 and 1": opencv(".tiff", values(np.uint16, 0, 1)),
    "tiff, 16 bits, 0 and 65535": opencv(".tiff", values(np.uint16, 0, 65535)),
    "tiff, 32 bits, 0 and 255": file(values(np.int32, 0, 255), "TIFF"),
    "tiff, 32 bits, 0 and 1": file(values(np.int32, 0, 1), "TIFF"),
    "tiff, float, 0 and 1": file(values(np.float32, 0, 1), "TIFF"),
    "tiff, float, 0 and 255": file(values(np.float32, 0, 255), "TIFF"),
    "tiff, float64, 0 and 1": opencv(".tiff", values(np.float64, 0, 1)),
    "tiff, float, edges smoothed": file(SMOOTH.astype(np.float32) / 255, "TIFF"),
    "webp, lossless": file(PLAIN, "WEBP", mode="RGB", lossless=True),
    "pbm": opencv(".pbm", PLAIN),
    "pgm": opencv(".pgm", PLAIN),
    "pgm, 0 and 1": b"P5 %d %d 1\n" % SHAPE[::-1] + values(np.uint8, 0, 1).tobytes(),
    **{
        f"pgm, 0 and {lesion} of {largest}": b"P5 %d %d %d\n" % (*SHAPE[::-1], largest)
        + values(">u2" if largest > 255 else np.uint8, 0, lesion).tobytes()
        for largest, lesion in ((7, 7), (15, 15), (15, 1), (100, 100), (255, 1), (4095, 4095), (4095, 255), (65535, 1))
    },
    "pgm in text": b"P2 %d %d 15\n" % SHAPE[::-1] + b" ".join(b"%d" % v for v in values(np.uint8, 0, 15).ravel()),
    "pbm in text": b"P1 %d %d\n" % SHAPE[::-1] + b"".join(b"%d" % v for v in values(np.uint8, 1, 0).ravel()),
    "ppm, black and red": b"P6 %d %d 255\n" % SHAPE[::-1] + colours(BLACK, RED).tobytes(),
    "ppm, grey, up to 15": b"P6 %d %d 15\n" % SHAPE[::-1] + colours(BLACK, (15, 15, 15)).tobytes(),
    "pgm, edges smoothed, up to 15": b"P5 %d %d 15\n" % SHAPE[::-1] + np.rint(SMOOTH / 17).astype(np.uint8).tobytes(),
    **{f"avif, lossy, quality {quality}": file(PLAIN, "AVIF", quality=quality) for quality in (40, 75, 95)},
    "jpeg 2000, lossy": file(PLAIN, "JPEG2000", irreversible=True, quality_mode="rates", quality_layers=[12]),
    "tiff, white is 0": file(PLAIN, "TIFF", tiffinfo={262: 0}),
    "tiff, 1 bit, white is 0": file(LESION, "TIFF", tiffinfo={262: 0}),
    "tiff, fax": file(LESION, "TIFF", compression="group4"),
    "tiff, palette": file(PLAIN, "TIFF", mode="P"),
    "png, black is see-through": file(PLAIN, transparency=0),
    "jpeg 2000": file(PLAIN, "JPEG2000"),
    **{f"jpeg, quality {quality}": file(PLAIN, "JPEG", quality=quality) for quality in (30, 60, 75, 90, 100)},
    "jpeg, colours": file(PLAIN, "JPEG", mode="RGB", quality=75),
    **{f"png of what was lossy, quality {quality}": once(PLAIN, quality) for quality in (60, 75, 90, 97)},
    **{
        f"{form} of what was lossy and larger, quality {quality}": once(larger(PLAIN), quality, f".{form}", half=True)
        for form in ("png", "bmp", "tiff")
        for quality in (20, 40, 75)
    },
    "png, palette without colours": file(Image.fromarray(values(np.uint8, 0, 1), "P")),
    "png, palette without colours, 0 and 255": file(Image.fromarray(values(np.uint8, 0, 255), "P")),
    "pgm, head of Windows' lines": b"P5\r\n%d %d\r\n255\r\n" % SHAPE[::-1] + PLAIN.tobytes(),
    "webp, lossy": file(PLAIN, "WEBP", mode="RGB", quality=70),
}


@pytest.mark.parametrize("kind", READ)
def test_a_mask_is_read_whatever_holds_it(kind):
    found = read_mask(READ[kind])
    assert (found.dtype, found.shape) == (np.uint8, SHAPE)
    assert set(np.unique(found)) == {0, 1}
    exact = not any(word in kind for word in ("jpeg, ", "lossy", "edges"))
    wrong = (found > 0) != LESION
    assert wrong.sum() <= (0 if exact else 60)
    if not exact:
        assert not cv2.erode(wrong.astype(np.uint8), np.ones((3, 3), np.uint8)).any(), "but for the edge's own pixels"


VALUES, COLOURS, SHAPES = (
    "mask holds the values? .*; allowed are two values",
    "mask holds {} colours",
    "mask has two shapes",
)
REFUSED = {
    "void ring of 255 about 1": (file(values(np.uint8, 0, 1, ring=255)), r"0 \(.*%\), 1 \(.*%\), 255 \(.*%\); allowed"),
    "void ring of 128": (file(values(np.uint8, ring=128)), r"0 \(.*%\), 128 \(.*%\), 255"),
    "thin void ring of 128": (file(values(np.uint8, thin=128)), r"0 \(.*%\), 128 \(.*%\), 255"),
    "another class": (file(values(np.uint8, 0, 1, spot=2)), r"0 \(.*%\), 1 \(.*%\), 2"),
    "another class beside 255": (file(values(np.uint8, spot=100)), r"100 \(.*%\)"),
    "two further classes": (file(values(np.uint8, spot=100, ring=200)), r"100 \(.*%\), 200 \(.*%\)"),
    "0 and 2": (file(values(np.uint8, 0, 2)), r"values 0 \(.*%\), 2 \(.*%\)"),
    "0 and 128": (file(values(np.uint8, 0, 128)), r"values 0 \(.*%\), 128 \(.*%\)"),
    "100 and 255": (file(values(np.uint8, 100, 255)), r"values 100 \(.*%\), 255 \(.*%\)"),
    "1 and 2": (file(values(np.uint8, 1, 2)), r"values 1 \(.*%\), 2 \(.*%\)"),
    "a photograph": (file(np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)), "and 251 more; allowed"),
    "a heat map": (file(cv2.GaussianBlur(PLAIN, (0, 0), 9)), VALUES),
    "16 bits, ring of 1": (opencv(".png", values(np.uint16, 0, 65535, ring=1)), r"1 \(.*%\), 65535"),
    "16 bits, 0 and 4095": (opencv(".png", values(np.uint16, 0, 4095)), r"values 0 \(.*%\), 4095 \(.*%\)"),
    "32 bits, negative": (file(values(np.int32, -1, 1), "TIFF"), r"values -1 \(.*%\), 1 \(.*%\)"),
    "float, not a number": (file(values(np.float32, np.nan, 1), "TIFF"), "mask holds the values"),
    "float, 0 and 0.5": (file(values(np.float32, 0, 0.5), "TIFF"), r"0.5 \(.*%\)"),
    "float, logits": (file(values(np.float32, -4.5, 3.2), "TIFF"), r"-4.5 \(.*%\), 3.2"),
    "jpeg, ring of 128": (file(values(np.uint8, ring=128), "JPEG", quality=95), VALUES),
    "jpeg, another class": (file(values(np.uint8, spot=128), "JPEG", quality=75), VALUES),
    "jpeg, another class near black": (file(values(np.uint8, spot=50), "JPEG", quality=90), VALUES),
    "jpeg, void ring about 1": (file(larger(values(np.uint8, 0, 1, ring=255)), "JPEG", quality=95), VALUES),
    "png of a jpeg, ring of 128": (once(larger(values(np.uint8, ring=128)), 60), VALUES),
    "png of a jpeg, another class": (once(larger(values(np.uint8, spot=128)), 75), VALUES),
    "png of a jpeg, another class near white": (once(larger(values(np.uint8, spot=220)), 75), VALUES),
    "png of a jpeg, void ring about 1": (once(larger(values(np.uint8, 0, 1, ring=255)), 75), VALUES),
    "png of a smoothed void ring about 1": (
        opencv(".png", cv2.GaussianBlur(larger(values(np.uint8, 0, 1, ring=255)), (0, 0), 2)),
        VALUES,
    ),
    "png of a photograph's jpeg": (once(cv2.GaussianBlur(PLAIN, (0, 0), 9), 75), VALUES),
    "palette of black alone, another class": (
        palette(BLACK, BLACK, BLACK, spot=2),
        r"0 \(.*%\), 1 \(.*%\), 2",
    ),
    "jpeg, grey on black": (file(values(np.uint8, 0, 128), "JPEG", quality=75), VALUES),
    "three colours": (file(colours(BLACK, RED, ring=GREY)), COLOURS.format(3)),
    "palette, void ring": (palette(BLACK, RED, GREY, ring=2), COLOURS.format(3)),
    "two colours, neither black": (file(colours(RED, GREY)), r"2 colours, \(128, 0, 0\), \(192, 224, 224\); allowed"),
    **{
        f"{kind.lower()}, one lesion a page": (several(kind), "mask holds several pictures")
        for kind in ("TIFF", "GIF", "PNG", "WEBP")
    },
    "two shapes": (file(np.dstack([colours(BLACK, WHITE), np.where(SPOT, 255, 0).astype(np.uint8)])), SHAPES),
    "pgm, 0 and 7 of 15": (b"P5 %d %d 15\n" % SHAPE[::-1] + values(np.uint8, 0, 7).tobytes(), r"0 \(.*%\), 7 \("),
    "pgm, void ring": (
        b"P5 %d %d 15\n" % SHAPE[::-1] + values(np.uint8, 0, 15, ring=7).tobytes(),
        r"0 \(.*%\), 7 \(.*%\), 15 \(",
    ),
    "pgm of 12 bits, another class": (
        b"P5 %d %d 4095\n" % SHAPE[::-1] + values(">u2", 0, 4095, spot=2000).tobytes(),
        r"0 \(.*%\), 2000 \(.*%\), 4095 \(",
    ),
    "ppm, three colours": (
        b"P6 %d %d 255\n" % SHAPE[::-1] + colours(BLACK, RED, ring=GREY).tobytes(),
        r"3 colours, \(0, 0, 0\), \(128, 0, 0\), \(192, 224, 224\)",
    ),
    "avif, ring of 128": (file(values(np.uint8, ring=128), "AVIF", quality=90), VALUES),
    "avif, a photograph": (file(cv2.GaussianBlur(PLAIN, (0, 0), 9), "AVIF", quality=90), VALUES),
    "no image": (b"text", "mask is not an image"),
    "nothing": (b"", "mask is an empty file"),
    "cut": (file(PLAIN)[:-30], "mask is a truncated or damaged PNG"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_mask_is_refused_with_the_values_found(kind, capfd):
    content, reason = REFUSED[kind]
    with pytest.raises(ValueError, match=reason) as refusal:
        read_mask(content)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 250
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (1, 1), (255, 1)])
def test_a_mask_of_one_value_is_read_and_judged_elsewhere(value, expected):
    assert (read_mask(file(np.full(SHAPE, value, np.uint8))) == expected).all()
