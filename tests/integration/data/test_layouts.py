"""Published sets and people's folders in miniature, as they come: through the data steps, or stopped with a reason."""

import io
import os
import shutil
import socket
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from hymunet import params, profiles
from hymunet.data.acquire.download import download
from hymunet.data.acquire.published import sums_sha256
from hymunet.data.acquire.sources import SOURCES
from hymunet.data.acquire.synthetic import draw
from hymunet.data.acquire.transfer import file_sha256
from hymunet.data.check.expectations import validate
from hymunet.data.divide.divide import divide
from hymunet.data.prepare.manifest import read_manifest
from hymunet.data.prepare.prepare import prepare
from tests.support.training_data import ROOT

COUNT = 12
CASES = [draw(index, 64, seed=5) for index in range(COUNT)]


def file(pixels, name):
    """Encoded as the name's ending says."""
    buffer, form = io.BytesIO(), {"jpg": "JPEG", "tif": "TIFF"}.get(name.rsplit(".", 1)[1].lower())
    Image.fromarray(pixels).save(buffer, form or name.rsplit(".", 1)[1].upper())
    return buffer.getvalue()


def pairs(image, mask, change=lambda mask: mask, names=range(COUNT)):
    """File name -> content, of patterns with a place for the case's name."""
    found = {}
    for case, (picture, lesion) in zip(names, CASES, strict=True):
        for pattern, pixels in ((image, picture), (mask, change(lesion))):
            name = pattern.format(case)
            found[name] = file(pixels, name)
    return found


def bits(mask):
    return mask > 0


def ones(mask):
    return mask // 255


PLAIN = pairs("images/{}.jpg", "masks/{}.png")
JUNK = {
    ".DS_Store": b"\0\0\0\1Bud1",
    "images/.DS_Store": b"Bud1",
    "images/._3.jpg": b"\0\5\x16\7",
    "images/Thumbs.db": b"\xd0\xcf",
    "images/@eaDir/3.jpg/SYNOFILE_THUMB_M.jpg": b"x",
    "images/.ipynb_checkpoints/3-checkpoint.jpg": PLAIN["images/3.jpg"],
    "masks/desktop.ini": b"[.ShellClassInfo]",
    "images/3.jpg~": b"x",
    "notes.txt": b"notes",
    "images/readme.md": b"about",
    "masks/.3.png.swp": b"b0VIM",
    "#recycle/images/old.jpg": PLAIN["images/3.jpg"],
    "images/IMG_3.MOV": b"film",
}
PH2 = "PH2 Dataset images/{0}/{0}"
IMD = [f"IMD{index:03}" for index in range(2, COUNT + 2)]
ISIC = [f"ISIC_{index:07}" for index in range(COUNT)]
ISBI, INPUT = "ISBI2016_ISIC_Part1_Training", "ISIC2018_Task1-2_Training_Input"
RINGED = np.dstack([CASES[3][1]] * 3) + CASES[4][1][..., None] // 2
FOLDERS = {  # files, and the ids that are to be found
    "plain": (PLAIN, None),
    "CVC-ClinicDB": (
        pairs("CVC-ClinicDB/Original/{}.tif", "CVC-ClinicDB/Ground Truth/{}.tif"),
        [f"CVC-ClinicDB/{index}" for index in range(COUNT)],
    ),
    "CVC-ClinicDB as PNG, named by numbers": (
        pairs("images/{:03}.png", "masks/{:03}.png"),
        [f"{index:03}" for index in range(COUNT)],
    ),
    "PH2": (
        pairs(f"{PH2}_Dermoscopic_Image/{{0}}.bmp", f"{PH2}_lesion/{{0}}_lesion.bmp", bits, IMD)
        | {f"{PH2.format(IMD[0])}_roi/{IMD[0]}_R1_Label2.bmp": file(CASES[0][1], "x.bmp"), "PH2_dataset.txt": b"table"},
        [f"PH2 Dataset images/{name}/{name}" for name in IMD],
    ),
    "ISIC 2016": (
        pairs(
            "ISBI2016_ISIC_Part1_Training_Data/{}.jpg",
            "ISBI2016_ISIC_Part1_Training_GroundTruth/{}_Segmentation.png",
            names=ISIC,
        )
        | {"ISBI2016_ISIC_Part1_Training_GroundTruth.csv": b"a,b"},
        ISIC,
    ),
    "ISIC 2017": (
        pairs("ISIC-2017_Training_Data/{}.jpg", "ISIC-2017_Training_Part1_GroundTruth/{}_segmentation.png", names=ISIC)
        | {f"ISIC-2017_Training_Data/{name}_superpixels.png": file(CASES[0][0], "x.png") for name in ISIC}
        | {"ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv": b"a,b"},
        ISIC,
    ),
    "ISIC 2018, unpacked": (
        pairs(
            "ISIC2018_Task1-2_Training_Input/{}.jpg",
            "ISIC2018_Task1_Training_GroundTruth/{}_segmentation.png",
            names=ISIC,
        )
        | {
            "ISIC2018_Task1-2_Training_Input/LICENSE.txt": b"CC-0",
            "ISIC2018_Task1-2_Training_Input/ATTRIBUTION.txt": b"x",
        },
        ISIC,
    ),
    "what a camera, a Mac, a NAS and a notebook leave": (PLAIN | JUNK, None),
    "masks of 0 and 1": (pairs("images/{}.png", "masks/{}.png", ones), None),
    "masks of one bit in TIFF": (pairs("images/{}.webp", "masks/{}.tif", bits), None),
    "masks as JPEG": (pairs("images/{}.bmp", "masks/{}_mask.jpg"), None),
    "GIF": (pairs("images/{}.jpg", "masks/{}.gif"), None),
    "camera's case": (pairs("images/IMG_{}.JPG", "masks/img_{}.png"), [f"IMG_{index}" for index in range(COUNT)]),
    "names with commas, quotes, percents": (
        pairs("images/{}.jpg", "masks/{}.png", names=[f'a "{index}", 100 %' for index in range(COUNT)]),
        [f'a "{index}", 100 %' for index in range(COUNT)],
    ),
}


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def chosen(name, source, **values):
    content = params.read_yaml(ROOT / "profiles/paper.yaml")
    profiles.lay_over(content, params.read_yaml(ROOT / f"profiles/{name}.yaml"))
    content["data"][source] |= values
    content["validate"]["min_images"] = COUNT - 1
    content["split"]["fractions"] = [0.6, 0.2, 0.2]
    return params.check(content)


def ids(section, tmp_path, **options):
    """The first two steps; what was prepared."""
    download(section.data, tmp_path / "raw")
    prepare(tmp_path / "raw", tmp_path / "prepared", 32, section.prepare.on_bad_pair, 2, **options)
    return [row["id"] for row in read_manifest(tmp_path / "prepared/manifest.parquet")]


@pytest.mark.parametrize("layout", FOLDERS)
def test_a_folder_is_understood_as_it_comes(layout, tmp_path, capsys):
    files, expected = FOLDERS[layout]
    section = chosen("folder", "folder", path=str(write(tmp_path / "mine", files)))
    assert ids(section, tmp_path) == sorted(expected or map(str, range(COUNT)))
    masks = np.load(tmp_path / "prepared/masks.npy")
    truth = sorted(cv2.resize(mask // 255, (32, 32), interpolation=cv2.INTER_NEAREST_EXACT).sum() for _, mask in CASES)
    assert np.abs(np.array(sorted(masks.sum((1, 2)))) - truth).max() <= (12 if "JPEG" in layout else 0)
    said = capsys.readouterr().err
    assert ("files left out, left behind by systems" in said) == ("leave" in layout or "2017" in layout)


@pytest.mark.parametrize("layout", ["CVC-ClinicDB as PNG, named by numbers", "names with commas, quotes, percents"])
def test_odd_names_pass_split_and_checks(layout, tmp_path):
    section = chosen("folder", "folder", path=str(write(tmp_path / "mine", FOLDERS[layout][0])))
    ids(section, tmp_path)
    divide(section.split, tmp_path / "prepared", tmp_path / "split")
    assert validate(section.validate_, tmp_path / "prepared", tmp_path / "split", tmp_path / "report") == []


def kvasir(**changes):
    return {
        name.replace("Kvasir-SEG", changes.get("folder", "Kvasir-SEG")).replace("//", "/").lstrip("/"): content
        for name, content in pairs("Kvasir-SEG/images/{}.jpg", "Kvasir-SEG/masks/{}.jpg").items()
    }


ZIPS = {
    "as published": kvasir(),
    "one folder deeper": kvasir(folder="Kvasir-SEG/Kvasir-SEG"),
    "without the outer folder": kvasir(folder=""),
    "in other case": {name.upper().replace("KVASIR", "kvasir"): content for name, content in kvasir().items()},
    "from a Mac": kvasir() | {f"__MACOSX/{name.rsplit('/', 1)[0]}/._x.jpg": b"\0\5\x16\7" for name in kvasir()},
}


def zipped(path, files):
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("layout", ZIPS)
def test_kvasir_zipped_again_goes_through(layout, tmp_path):
    path = zipped(tmp_path / "mirror/kvasir-seg.zip", ZIPS[layout])
    sums = sums_sha256({path.name: file_sha256(path)})
    section = chosen("kvasir", "kvasir_seg", mirror=str(path.parent), sums=sums)
    assert ids(section, tmp_path) == sorted(
        str(name).upper() if "case" in layout else str(name) for name in range(COUNT)
    )


def test_an_archive_without_such_images_says_what_it_holds(tmp_path):
    path = zipped(tmp_path / "mirror/kvasir-seg.zip", {"a/1.png": b"x", "a/2.png": b"x", "b.json": b"{}"})
    sums = sums_sha256({path.name: file_sha256(path)})
    with pytest.raises(
        ValueError, match=r"no image of source kvasir_seg in kvasir-seg.zip; found 2 .png, 1 .json, as a/1"
    ):
        ids(chosen("kvasir", "kvasir_seg", mirror=str(path.parent), sums=sums), tmp_path)


def test_isic_2018_goes_through_with_what_its_archives_hold_beside(tmp_path):
    for archive in SOURCES["isic2018"].archives:
        folder = archive.name.removesuffix(".zip")
        files = pairs(f"{folder}/{{}}.jpg", f"{folder}/{{}}_segmentation.png", names=ISIC)
        kept = {name: content for name, content in files.items() if name.endswith("jpg") == ("Input" in folder)}
        beside = {f"{folder}/LICENSE.txt": b"CC-0", f"{folder}/ATTRIBUTION.txt": b"x"}
        with zipfile.ZipFile(tmp_path / archive.name, "w") as file:
            for name, content in (kept | beside).items():
                file.writestr(name, content)
    sums = sums_sha256({archive.name: file_sha256(tmp_path / archive.name) for archive in SOURCES["isic2018"].archives})
    section = chosen("isic128", "isic2018", mirror=str(tmp_path), sums=sums)
    assert ids(section, tmp_path / "data") == ISIC


def test_linked_files_are_followed_and_linked_folders_refused(tmp_path):
    """DVC hashes what the links of files lead to, and takes a linked folder for an empty one: later images would be
    "up to date", and two such sets one."""
    disk, mine = write(tmp_path / "disk", PLAIN), tmp_path / "mine"
    (disk / "images/loop").symlink_to(disk / "images")  # into which nobody has to look
    for name in PLAIN:
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).symlink_to(disk / name)
    (tmp_path / "link").symlink_to(mine)
    for path in (mine, tmp_path / "link"):
        assert ids(chosen("folder", "folder", path=str(path)), tmp_path) == sorted(map(str, range(COUNT)))
    both = tmp_path / "both"
    both.mkdir()
    for name in ("images", "masks"):
        (both / name).symlink_to(disk / name)
    with pytest.raises(ValueError, match=r"2 folders are links \(images, masks\), behind which DVC would see no"):
        ids(chosen("folder", "folder", path=str(both)), tmp_path)


NOT_FOLDERS = {
    "nothing": ({}, "no such folder"),
    "no masks": (pairs("images/{}.jpg", "other/{}.png"), "no folder of masks in it; expected images/ and masks/"),
    "no images": ({"masks/1.png": b"x"}, "no folder of images in it; .* found 1 .png, as masks/1.png"),
    "in one folder": (
        pairs("{}.jpg", "{}_mask.png"),
        "no folder of images and of masks in it; .* found 12 .jpg, 12 .png",
    ),
    "names that do not fit": (
        pairs("images/img_{}.jpg", "masks/mask_{}.png"),
        "no image with its mask; a mask has .* found the image .*images/img_0.jpg and the mask .*masks/mask_0.png",
    ),
    "tables": ({"images/a.csv": b"", "masks/a.csv": b""}, "found 2 .csv"),
}


@pytest.mark.parametrize("layout", NOT_FOLDERS)
def test_what_is_no_such_folder_is_refused_with_what_was_found(layout, tmp_path):
    files, reason = NOT_FOLDERS[layout]
    with pytest.raises(ValueError, match=reason):
        ids(chosen("folder", "folder", path=str(write(tmp_path / "mine", files))), tmp_path)


def copied(mine, *names):
    """Further pairs under these names, which are bytes."""
    for name in names:
        for part, case in (("images", "3.jpg"), ("masks", "3.png")):
            target = os.fsencode(mine / part) + b"/" + name + case[1:].encode()
            shutil.copy(mine / part / case, target)


STRANGE = {  # what is done to a good folder -> what is said of it; None: it goes through
    "a pipe": (lambda mine: os.mkfifo(mine / "images/x.png"), r"1 pipes or devices \(1 .png, as images/x.png\)"),
    "a pipe without an ending": (lambda mine: os.mkfifo(mine / "images/x"), None),
    "a socket beside": (lambda mine: socket.socket(socket.AF_UNIX).bind(os.path.relpath(mine / "agent")), None),
    "an editor's broken link": (lambda mine: (mine / "images/.#3.jpg").symlink_to("me@host.1"), None),
    "a link to itself": (lambda mine: (mine / "images/x.jpg").symlink_to("x.jpg"), "1 links that lead nowhere"),
    "names in Latin-1": (
        lambda mine: copied(mine, b"L\xe4sion"),
        r"2 names that are not in UTF-8 .*images/L\\xe4sion.jpg",
    ),
    "a file too large": (
        lambda mine: os.truncate(mine / "images/3.jpg", 2**28 + 1),
        r"/mine: 1 files of more than 256 MiB \(1 .jpg, as images/3.jpg\); mend, rename or remove them",
    ),
    "a backslash": (lambda mine: copied(mine, b"a\\b"), "2 names with a backslash"),
    "case twins": (lambda mine: copied(mine, b"a", b"A"), "4 names that differ only in case or in the form of accents"),
    "accents' twins": (
        lambda mine: copied(mine, "é".encode(), "e\u0301".encode()),
        "4 names that differ only in case or in the form of accents",
    ),
    "several of them": (
        lambda mine: copied(mine, b"a\\b", b"L\xe4sion"),
        "2 names that are not in UTF-8 .*; 2 names with a backslash .*; mend, rename or remove them",
    ),
    "twins that are no images": (
        lambda mine: [(mine / name).write_text("x") for name in ("README", "readme")],
        None,
    ),
    "a folder called as an image": (lambda mine: (mine / "images/x.jpg").mkdir(), None),
    "a colon and a line's end": (lambda mine: copied(mine, b"12:30", b"a\nb"), None),
}


@pytest.mark.parametrize("strange", STRANGE)
def test_what_a_file_system_holds_goes_through_or_is_refused_together(strange, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    change, reason = STRANGE[strange]
    mine = write(tmp_path / "mine", PLAIN)
    change(mine)
    section = chosen("folder", "folder", path=str(mine))
    if reason is None:
        assert len(ids(section, tmp_path)) >= COUNT
        return
    with pytest.raises(ValueError, match=reason):
        ids(section, tmp_path)


def test_an_archive_in_the_place_of_the_folder_is_told_as_one(tmp_path):
    archive = shutil.make_archive(str(tmp_path / "mine"), "zip", write(tmp_path / "mine", PLAIN))
    with pytest.raises(ValueError, match=r"mine.zip: a file; unpack it, and name the folder with images/ and masks/"):
        ids(chosen("folder", "folder", path=archive), tmp_path)


@pytest.mark.parametrize("stored", [True, False], ids=["masks on the pixels as stored", "masks on the image as shown"])
def test_images_that_exif_turns_keep_to_their_masks(stored, tmp_path, capsys):
    files = dict(PLAIN)
    for case in (2, 5, 7, 8):
        image, mask = CASES[case]
        exif, buffer = Image.Exif(), io.BytesIO()
        exif[0x0112] = 3
        Image.fromarray(np.ascontiguousarray(image[::-1, ::-1])).save(buffer, "JPEG", quality=95, exif=exif)
        files[f"images/{case}.jpg"] = buffer.getvalue()
        files[f"masks/{case}.png"] = file(np.ascontiguousarray(mask[::-1, ::-1]) if stored else mask, "x.png")
    section = chosen("folder", "folder", path=str(write(tmp_path / "mine", files)))
    ids(section, tmp_path)
    assert f"drawn on {'the pixels as stored' if stored else 'the image as shown'}" in capsys.readouterr().err
    images, masks = (np.load(tmp_path / f"prepared/{name}.npy") for name in ("images", "masks"))
    rows = sorted(map(str, range(COUNT)))
    for case in (2, 5, 7, 8):
        plain = cv2.resize(CASES[case][0], (32, 32), interpolation=cv2.INTER_AREA).astype(int)
        small = cv2.resize(CASES[case][1] // 255, (32, 32), interpolation=cv2.INTER_NEAREST_EXACT)
        found = images[rows.index(str(case))], masks[rows.index(str(case))]
        if stored:
            found = tuple(array[::-1, ::-1] for array in found)
        assert abs(found[0] - plain).mean() < 4
        assert (found[1] != small).mean() < 0.08


def test_the_bytes_do_not_depend_on_the_locale_or_the_order_of_files(tmp_path):
    write(tmp_path / "one", dict(sorted(FOLDERS["plain"][0].items())))
    write(tmp_path / "two", dict(sorted(FOLDERS["plain"][0].items(), reverse=True)))
    digests = set()
    for name in ("one", "two"):
        download(chosen("folder", "folder", path=str(tmp_path / name)).data, tmp_path / f"raw-{name}")
        digests.add(file_sha256(tmp_path / f"raw-{name}/folder.zip"))
        os.utime(tmp_path / name / "images/3.jpg", (0, 0))
    assert len(digests) == 1
