"""What may be named as images, where each one's results go, and that no name leads elsewhere."""

import io
import os
import re
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest

from hymunet.data.acquire import folder
from hymunet.evaluation.folders import FolderCases
from hymunet.formats import kinds
from hymunet.prediction.ours import png
from hymunet.prediction.sources import entries
from hymunet.serving.intake import ACCEPTED, decode
from hymunet.serving.limits import Limits, Refused
from tests.unit.data.test_kinds import FORMATS, IMAGE, MASK


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with images at several depths, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    names = ("a.jpg", "b.PNG", "sub/c.tif", "sub/deep/d.webp", "notes.txt", ".hidden.png", ".cache/e.png")
    for name in names:
        (tmp_path / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "scans" / name).write_bytes(name.encode())
    (tmp_path / "scans/a_mask.png").write_bytes(png(np.zeros((2, 2), np.uint8)))
    return tmp_path


def names(*sources, output="out"):
    from pathlib import Path

    return [entry.name for entry in entries(sources, Path(output)) if not entry.problem]


def test_folders_are_searched_to_their_depths_and_keep_their_paths(place):
    assert names("scans") == ["a", "b", "sub/c", "sub/deep/d"]
    assert [entry.read() for entry in entries(["scans"], place / "out")][2] == b"sub/c.tif"


def test_what_lies_in_the_output_is_no_source(place):
    assert names("scans", output="scans/sub") == ["a", "b"]
    assert names("scans/**/*.*", output="scans/sub/deep")[-1] == "sub/c"


def test_patterns_keep_the_path_below_their_fixed_part(place):
    assert names("scans/**/*.tif") == ["sub/c"]
    assert names("scans/sub/*.tif") == ["c"]
    assert names("scans/*.jpg", "scans/sub/deep/*") == ["a", "d"]


TWINS = {  # files of one folder -> the names of their results
    "two endings": (("a.jpg", "a.png", "b.png"), ["a.jpg", "a.png", "b"]),
    "three, one below": (
        ("sub/a.JPG", "sub/a.tif", "sub/a.png", "a.png"),
        ["a", "sub/a.JPG", "sub/a.png", "sub/a.tif"],
    ),
    "but for its case": (("A.jpg", "a.png"), ["A.jpg", "a.png"]),
    "a DICOM's number": (("1.2.84", "1.2.84.dcm"), ["1.2.84", "1.2.84.dcm"]),
}


@pytest.mark.parametrize("way", ["folder", "pattern", "ZIP", "list"])
@pytest.mark.parametrize("case", TWINS)
def test_images_that_differ_in_their_endings_alone_keep_them(place, case, way):
    files, expected = TWINS[case]
    for name in files:
        (place / "twins" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "twins" / name).write_bytes(bytes(128) + b"DICM" if name == "1.2.84" else name.encode())
    with zipfile.ZipFile("twins.zip", "w") as archive:
        for name in files:
            archive.write(place / "twins" / name, name)
    (place / "twins/list.csv").write_text("image\n" + "".join(f"{name}\n" for name in files))
    sources = {"folder": ["twins"], "pattern": [f"twins/{'**/' * ('sub' in str(files))}*"], "ZIP": ["twins.zip"]}
    (place / "twins/list.csv").rename(place / "list.csv") if way != "list" else None
    assert sorted(names(*sources.get(way, ["twins/list.csv"]))) == expected


def test_a_zip_is_read_where_it_lies(place):
    with zipfile.ZipFile("x.zip", "w") as archive:
        for name in ("q/1.jpg", "q/2.png", "__MACOSX/q/._1.jpg", "q/readme.txt", "q/"):
            archive.writestr(name, name)
    found = entries(["x.zip"], place / "out")
    assert [(entry.name, entry.read()) for entry in found] == [("q/1", b"q/1.jpg"), ("q/2", b"q/2.png")]
    assert sorted(path.name for path in place.iterdir()) == ["scans", "x.zip"], "nothing was unpacked"


TRICKS = ("../up.png", "a/../../up.png", "/etc/up.png", "C:up.png", "c:/up.png", "\\\\host\\up.png", "a\\..\\up.png")


def test_names_that_lead_outside_are_reported_and_never_read(place):
    with zipfile.ZipFile("x.zip", "w") as archive:
        for name in (*TRICKS, "good.png"):
            member = zipfile.ZipInfo()
            member.filename = name  # the constructor would mend it
            archive.writestr(member, b"x")
    found = entries(["x.zip"], place / "out")
    assert [entry.name for entry in found if not entry.problem] == ["good"]
    problems = [entry.problem for entry in found if entry.problem]
    assert len(problems) == len(TRICKS)
    assert all("such images are left out" in problem for problem in problems)


def test_a_csv_names_paths_from_its_own_folder(place):
    (place / "scans/list.csv").write_text('id,Image\n1,a.jpg\n2,"sub/c.tif"\n3,\n4,sub/../b.PNG\n')
    assert names("scans/list.csv") == ["a", "sub/c", "b"]
    absolute = place / "scans/sub/deep/d.webp"
    (place / "other.csv").write_text(f"path\n{absolute}\ngone.png\n")
    first, gone = entries(["other.csv"], place / "out")
    assert (first.name, first.read()) == ("d", b"sub/deep/d.webp")
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        gone.read()


TABLES = {  # as spreadsheets write them
    "semicolons": "id;image;Größe\n1;a.jpg;7,5\n",
    "tabs": "image\tid\na.jpg\t1\n",
    "a mark at its start": "\ufeffimage,id\na.jpg,1\n",
    "old line ends": "image,id\ra.jpg,1\r",
    "a name in capitals": " Path ,id\na.jpg,1\n",
    "short rows": "id,image\n1,a.jpg\n2\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("table", TABLES)
def test_a_list_is_read_as_spreadsheets_write_it(place, table, encoding):
    (place / "scans/list.csv").write_bytes(TABLES[table].encode(encoding))
    assert names("scans/list.csv") == ["a"]


@pytest.mark.parametrize("text", ["image\nLäsion.jpg\n", "id,image\n1,a.jpg\n2,é.jpg\n"])
def test_a_list_in_another_encoding_is_refused_by_its_name(place, text):
    (place / "list.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"list.csv: not a CSV in UTF-8 \(byte 0xe. in line [23]\); save it as CSV"):
        names("list.csv")


@pytest.mark.parametrize("way", ["folder", "pattern", "stdin", "named"])
def test_a_name_that_is_no_text_is_reported_and_stops_nothing(place, monkeypatch, way):
    """As of a disk from a Latin-1 machine: results and tables could not hold it."""
    (place / "latin").mkdir()
    for name in (b"latin/L\xe4sion.jpg", "latin/Läsion.png".encode()):
        (place / os.fsdecode(name)).write_bytes(b"x")
    source = {"folder": "latin", "pattern": "latin/*", "stdin": "-", "named": os.fsdecode(b"latin/L\xe4sion.jpg")}[way]
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO("latin/Läsion.png\n".encode() + b"latin/L\xe4sion.jpg"))
    )
    found = entries([source], place / "out")
    assert [entry.name.removeprefix("latin/") for entry in found if not entry.problem] == ["Läsion"][: way != "named"]
    (problem,) = (entry.problem for entry in found if entry.problem)
    assert problem.startswith(r"latin/L\xe4sion.jpg: its name is not text in UTF-8 as utf-8 reads it; rename it")


@pytest.mark.parametrize("name", ["scans/a\nb.png", "scans/a\rb.png", "scans/\t.png", "scans/x\ny/a.png"])
def test_a_name_that_no_row_could_hold_is_reported_and_stops_nothing(place, name):
    """Its row would name another file: it would be done again each time, and left out of COCO's file."""
    (place / name).parent.mkdir(exist_ok=True)
    (place / name).write_bytes(b"x")
    found = entries(["scans"], place / "out")
    assert [entry.name for entry in found if not entry.problem] == ["a", "b", "sub/c", "sub/deep/d"]
    (problem,) = (entry.problem for entry in found if entry.problem)
    assert problem == f"{name!r}: a line break or the like is in its name; rename it"


def test_in_a_locale_that_cannot_say_them_names_are_reported(place):
    (place / "Läsion.png").write_bytes(b"x")
    script = "from pathlib import Path; from hymunet.prediction.sources import entries; e, = entries(['.'], Path('o'));"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    (place / "scans").rename(place.parent / "elsewhere")
    done = subprocess.run(
        [sys.executable, "-c", f"{script} print(e.problem)"], env=environment, capture_output=True, text=True
    )
    assert r"L\xc3\xa4sion.png: its name is not text in UTF-8 as ascii reads it; rename it, or set" in done.stdout, done


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"scans/a.jpg\n\nscans/sub/c.tif\r\n", ["scans/a", "scans/sub/c"]), (b"\xff\xd8\xff", ["stdin"])],
)
def test_stdin_holds_paths_or_one_image(place, monkeypatch, content, expected):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert names("-") == expected


REFUSED = {
    "absent": (["gone.jpg", "no/*.png"], "gone.jpg, no/*.png: not there, and no pattern that fits a file"),
    "no image in a folder": (["scans/.cache/none"], "none: no image in it"),
    "a broken ZIP": (["broken.zip"], "broken.zip: is no whole ZIP archive"),
    "half a ZIP": (["half.zip"], "half.zip: is no whole ZIP archive (File is not a zip file); get it again"),
    "no column": (["list.csv"], "list.csv: its first line names no column image, path, file, filename; found name"),
    "one name twice": (["scans/a.jpg", "scans"], "two images are named a (scans/a.jpg, scans/a.jpg)"),
    "one name but for its case": (["scans/b.PNG", "B.png"], "two images are named B (scans/b.PNG, B.png)"),
    "one of three again": (["scans/b.PNG", "B.jpg", "B.png"], "two images are named B (scans/b.PNG, B.jpg)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_source_is_refused_before_any_work(place, case):
    (place / "scans/.cache/none").mkdir()
    (place / "list.csv").write_text("name\na.jpg\n")
    (place / "B.jpg").write_bytes(b"")
    (place / "B.png").write_bytes(b"")
    with zipfile.ZipFile("broken.zip", "w") as archive:
        archive.writestr("a.png", b"x")
    content = bytearray((place / "broken.zip").read_bytes())
    content[content.index(b"PK\x01\x02")] = 0
    (place / "broken.zip").write_bytes(content)
    (place / "half.zip").write_bytes(content[: len(content) // 2])
    sources, message = REFUSED[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        entries(sources, place / "out")


@pytest.mark.parametrize("target", ["nowhere.png", "self.png"])
def test_a_link_that_leads_nowhere_is_an_image_that_cannot_be_read(place, target):
    os.symlink(target, place / "self.png")
    (found,) = entries(["self.png"], place / "out")
    with pytest.raises(OSError, match="self"):
        found.read()


@pytest.mark.parametrize("way", ["named", "in a list"])
def test_a_device_is_named_and_not_read(place, way):
    (place / "list.csv").write_text("image\n/dev/zero\n")
    (found,) = entries(["/dev/zero" if way == "named" else "list.csv"], place / "out")
    assert found.problem == "/dev/zero is a device and no file; name a file"


def test_a_link_in_a_folder_is_no_way_round(place):
    os.symlink(place, place / "scans/loop")
    assert names("scans") == ["a", "b", "sub/c", "sub/deep/d"]


def ways(place, files):
    """The same files as a folder, a ZIP, a list and a pattern."""
    for name, content in files.items():
        (place / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "mine" / name).write_bytes(content)
    with zipfile.ZipFile(place / "mine.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    (place / "mine/list.csv").write_text("".join(f"{line}\n" for line in ("image", *files)))
    return ["mine", "mine.zip", "mine/list.csv", "mine/**/*[!v]"]


@pytest.mark.parametrize("ending", kinds.READ.split("|"))
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_every_kind_that_the_pipeline_reads_is_found_by_its_ending(place, ending, case):
    assert folder.role(f"folder/images/a.{case(ending)}") == ("image", "a")
    for source in ways(place, {f"sub/a.{case(ending)}": b"x"}):
        assert [name.removeprefix("mine/") for name in names(source)] == ["sub/a"], source


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("name", ["1.2.840.113619.2.5", "IM0001", "IM1.IMA"])
def test_every_kind_that_the_pipeline_reads_is_found_by_its_content(place, capsys, ending, name):
    """Named as the pipeline names it, so that results of images that differ in a UID's last number lie apart."""
    ways(place, {name: FORMATS[ending][0](), "notes": b"BM of all patients", "x.nii": b"n"})
    (place / "mine/list.csv").unlink()
    packed = folder.named(place / "mine", [name, "notes", "x.nii"], "x/images")
    expected = [] if packed[name] == name else [packed[name].removesuffix(f".{ending}")]
    assert expected or (ending, name) == ("tif", "IM1.IMA"), "but for whole slides"
    for source in ("mine", "mine.zip"):
        if not expected:
            with pytest.raises(ValueError, match="no image in it; read are JPEG, PNG, BMP, TIFF, WebP, GIF, JPEG 2000"):
                names(source)
            continue
        assert names(source) == expected
        assert f"predict: {source}: 2 files left out, no image: 1 " in capsys.readouterr().err


@pytest.mark.parametrize("ending", FORMATS)
def test_every_kind_that_the_pipeline_reads_is_evaluated(place, ending):
    for part in ("a", "b"):
        (place / part).mkdir()
    for name in (f"x.{ending}", f"y.{ending.upper()}", "1.2.840.7"):
        (place / "a" / name).write_bytes(FORMATS[ending][0]())
    for name in ("x.png", "y_mask.png", "1.2.840.7.png"):
        (place / "b" / name).write_bytes(cv2.imencode(".png", MASK)[1].tobytes())
    cases = FolderCases.of_two(place / "a", place / "b", 32)
    assert cases.ids == ["1.2.840.7", "x", "y"]
    for position in range(3):
        assert np.abs(cases[position].image.astype(int) - cv2.resize(IMAGE, (32, 32), interpolation=3)).mean() < 12


@pytest.mark.parametrize("ending", FORMATS)
def test_every_kind_that_the_pipeline_reads_is_served_or_refused_with_the_kinds_that_are(ending):
    content = FORMATS[ending][0]()
    if ending in ("jpg", "png", "bmp", "tif", "webp"):
        assert np.abs(decode(content, Limits()).astype(int) - IMAGE).mean() < 12
        return
    with pytest.raises(Refused, match=f"not an image that is read here: {ACCEPTED}") as refusal:
        decode(content, Limits())
    assert refusal.value.status == 415


def test_a_pipe_among_the_images_is_left_out_and_said(place, capsys):
    os.mkfifo(place / "scans/pipe.png")
    assert names("scans") == ["a", "b", "sub/c", "sub/deep/d"]
    assert "2 files left out, no image: 1 .txt, 1 .png, as notes.txt, pipe.png" in capsys.readouterr().err


def test_what_is_left_out_is_counted_and_named(place, capsys):
    with zipfile.ZipFile("x.zip", "w") as archive:
        for name in ("1.jpg", "__MACOSX/._1.jpg", "readme.txt"):
            archive.writestr(name, name)
    os.symlink(place / "scans/sub", place / "scans/further")
    assert names("scans", "x.zip") == ["a", "b", "sub/c", "sub/deep/d", "1"]
    assert capsys.readouterr().err.splitlines() == [
        "predict: scans: 2 files left out, left behind by systems: 2 .png, as .cache/e.png, .hidden.png",
        "predict: scans: 1 files left out, no image: 1 .txt, as notes.txt",
        "predict: scans: 1 linked folders are not entered (further); name them besides, if they are meant",
        "predict: x.zip: 1 files left out, left behind by systems: 1 .jpg, as __MACOSX/._1.jpg",
        "predict: x.zip: 1 files left out, no image: 1 .txt, as readme.txt",
    ]


def test_what_an_evaluation_leaves_out_is_counted_and_named(place, capsys):
    mask = cv2.imencode(".png", MASK)[1].tobytes()
    files = {"images/x.png": FORMATS["png"][0](), "masks/x.png": mask, "images/._x.png": b"", "images/notes.txt": b"n"}
    for name, content in (files | {"x.csv": b"id"}).items():
        (place / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "mine" / name).write_bytes(content)
    os.symlink(place / "mine", place / "mine/again")
    assert FolderCases.of_one(place / "mine", 32).ids == ["x"]
    assert capsys.readouterr().err.splitlines() == [
        f"evaluate: {place}/mine: 1 files left out, left behind by systems: 1 .png, as images/._x.png",
        f"evaluate: {place}/mine: 2 files left out, no image or mask: 1 .txt, 1 .csv, as images/notes.txt, x.csv",
    ]
