"""Files whose ending says nothing, or lies: told by what they hold, for every format that is read."""

import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from hymunet import params
from hymunet.data.acquire import folder
from hymunet.data.acquire.download import download
from hymunet.data.acquire.sections import Folder
from hymunet.data.acquire.synthetic import draw
from hymunet.data.prepare.manifest import read_manifest
from hymunet.data.prepare.prepare import prepare
from hymunet.images import rgb
from tests.support.training_data import ROOT
from tests.unit.test_formats import dicom, heic

IMAGE, MASK = draw(3, 64, seed=1)


def pillow(name, **options):
    def make():
        buffer = io.BytesIO()
        Image.fromarray(IMAGE).save(buffer, name, **options)
        return buffer.getvalue()

    return make


def opencv(ending):
    return lambda: cv2.imencode(ending, IMAGE[..., ::-1])[1].tobytes()


FORMATS = {  # ending -> a file of it, and how far its values may be off on average
    "jpg": (pillow("JPEG", quality=95), 8),
    "png": (pillow("PNG"), 0),
    "bmp": (pillow("BMP"), 0),
    "tif": (pillow("TIFF"), 0),
    "webp": (pillow("WEBP", lossless=True), 0),
    "gif": (pillow("GIF"), 12),
    "jp2": (opencv(".jp2"), 4),
    "pnm": (opencv(".ppm"), 0),
    "avif": (opencv(".avif"), 8),
    "heic": (lambda: heic(IMAGE, quality=95), 8),
    "dcm": (lambda: dicom(IMAGE, "RGB"), 0),
}
NAMES = {  # of an image -> its id
    "IM1": "IM1",
    "1.2.840.113619.2.5": "1.2.840.113619.2.5",
    "a.b": "a",
    "IM1.IMA": "IM1",
    "IM1.dat": "IM1",
    "IM1.jpg": "IM1",
    "IM1.png": "IM1",
    "IM1.dcm": "IM1",
}
SLIDES = ("a.b", "IM1.IMA", "IM1.dat")  # as whole slides are: TIFFs under endings of their own


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ending", FORMATS)
def test_an_image_is_read_whatever_its_ending_says(tmp_path, ending, name):
    make, off = FORMATS[ending]
    content = make()
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    (tmp_path / "images" / name).write_bytes(content)
    (tmp_path / "masks" / f"{NAMES[name]}.png").write_bytes(cv2.imencode(".png", MASK)[1].tobytes())
    if ending == "tif" and name in SLIDES:
        with pytest.raises(ValueError, match="no folder of images in it"):
            list(folder.members(Folder(path=str(tmp_path))))
        return
    packed = dict(folder.members(Folder(path=str(tmp_path))))
    (pair,) = folder.SOURCE.pairs({"folder.zip": list(packed)})
    assert (pair.id, pair.problem) == (NAMES[name], "")
    found = rgb(packed[pair.image[1]], "x").astype(int)
    assert np.abs(found - IMAGE).mean() <= off


PNG = FORMATS["png"][0]
OTHERS = {  # file among the images -> what it holds; it is left out, which is said
    "notes": b"BM of all patients: see table",
    "table.dat": b"BMI,age\n22,31\n",
    "P1": b"P1 was biopsied",
    "empty": b"",
    "short.dcm_": b"DICM",
    "sounds": b"RIFF\x10\0\0\0WAVEfmt ",
    "film.mov_": b"\0\0\0\x14ftypqt  ",
    "0.png_original": PNG(),
    "0.png.bak": PNG(),
    "0.old.png.1": PNG(),
    "slide.svs": FORMATS["tif"][0](),
    "zip": b"PK\x03\x04" + bytes(200),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_holds_no_image_or_is_a_copy_of_before_is_left_out(tmp_path, capsys, name):
    written(tmp_path, {"images/0.png": PNG(), "masks/0.png": cv2.imencode(".png", MASK)[1].tobytes()})
    written(tmp_path, {f"images/{name}": OTHERS[name]})
    assert [found for found, _ in folder.members(Folder(path=str(tmp_path)))] == [
        "folder/images/0.png",
        "folder/masks/0.png",
    ]
    assert "1 files left out, no image in a folder of images or masks" in capsys.readouterr().err


def written(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def test_one_without_an_ending_does_not_take_the_name_of_another(tmp_path, capsys):
    mask = cv2.imencode(".png", MASK)[1].tobytes()
    written(tmp_path, {"images/0.png": PNG(), "images/0": PNG(), "masks/0.png": mask})
    assert len(dict(folder.members(Folder(path=str(tmp_path))))) == 2
    assert "1 files left out, no image in a folder of images or masks: 1 without ending, as images/0" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("extra", [True, False], ids=["with the extra", "without it"])
def test_dicom_files_without_an_ending_are_prepared_or_refused_with_the_remedy(tmp_path, monkeypatch, capsys, extra):
    cases = {f"1.2.840.{index}": draw(index, 64, seed=1) for index in range(3)}
    for name, (image, mask) in cases.items():
        written(tmp_path / "mine", {f"images/{name}": dicom(image, "RGB"), f"masks/{name}": dicom(mask, "MONOCHROME2")})
    changes = ["data.source=folder", f"data.folder.path={tmp_path / 'mine'}"]
    data = params.load(ROOT / "profiles/paper.yaml", "data", changes=changes).data
    download(data, tmp_path / "raw")
    assert "6 files told by their content: 6 .dcm" in capsys.readouterr().err
    if not extra:
        monkeypatch.setitem(sys.modules, "pydicom", None)
        with pytest.raises(ValueError, match=r"3 of 3 pairs cannot be used") as refusal:
            prepare(tmp_path / "raw", tmp_path / "prepared", 32, "stop")
        line = (
            "masks/1.2.840.1.dcm: mask is a DICOM file, which the package pydicom reads; pip install 'hymunet[formats]'"
        )
        assert line in str(refusal.value)
        return
    prepare(tmp_path / "raw", tmp_path / "prepared", 32, "stop")
    assert [row["id"] for row in read_manifest(tmp_path / "prepared/manifest.parquet")] == sorted(cases)
