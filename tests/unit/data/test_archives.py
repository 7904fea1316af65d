"""Archives are read in place: what is honest comes out unchanged, what is hostile or damaged is refused."""

import io
import random
import stat
import struct
import warnings
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hymunet.data.acquire.archives import MAX_MEMBER_BYTES, Archive


def write(path, members, compression=zipfile.ZIP_DEFLATED):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore", UserWarning)  # duplicate names are what some of these archives are about
        for name, content in members:
            archive.writestr(name, content)
    return path


def entry(name, mode=0, **fields):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    for field, value in fields.items():
        setattr(info, field, value)
    return info


names = st.from_regex(r"[a-z]{1,8}(/[a-z0-9_]{1,12}){0,2}\.(jpg|png|txt)", fullmatch=True)
contents = st.dictionaries(names, st.binary(max_size=400), max_size=8)


@settings(max_examples=60, deadline=None)
@given(contents, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]))
def test_honest_archives_come_out_as_they_went_in(tmp_path_factory, members, compression):
    path = write(tmp_path_factory.mktemp("zip") / "a.zip", members.items(), compression)
    with Archive(path) as archive:
        assert {name: archive.read(name) for name in archive.names} == members


HOSTILE = {
    "absolute": [("/etc/passwd", b"x")],
    "climbing": [("a/../../b.jpg", b"x")],
    "climbing at the end": [("a/..", b"x")],
    "backslash": [("..\\b.jpg", b"x")],
    "drive": [("C:/b.jpg", b"x")],
    "link": [(entry("a.jpg", stat.S_IFLNK | 0o777), b"/etc/passwd")],
    "device": [(entry("a.jpg", stat.S_IFCHR | 0o600), b"")],
    "fifo": [(entry("a.jpg", stat.S_IFIFO | 0o600), b"")],
    "duplicate": [("a.jpg", b"1"), ("a.jpg", b"2")],
    "case clash": [("a/B.jpg", b"1"), ("a/b.jpg", b"2")],
    "unicode case clash": [("straße.jpg", b"1"), ("STRASSE.jpg", b"2")],
    "accent clash": [("Lésion.jpg", b"1"), ("Le\u0301sion.jpg", b"2")],
    "here": [(".", b"x")],
    "here, as a folder": [("./", b"")],
    "root": [("/", b"")],
    "roots": [("//", b"x")],
    "no name": [(entry(""), b"x")],
    "absolute folder": [("/etc/", b"")],
    "climbing folder": [("../", b"")],
    "above": [("..", b"x")],
    "link that ends as a folder": [(entry("a/", stat.S_IFLNK | 0o777), b"")],
    "bomb by ratio": [("a.png", bytes(20 * 2**20))],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused(tmp_path, kind):
    path = write(tmp_path / "hostile.zip", HOSTILE[kind])
    with pytest.raises(ValueError, match=r"hostile\.zip: refused, "):
        Archive(path)


def test_an_archive_with_windows_separators_is_refused_with_the_remedy(tmp_path):
    path = write(tmp_path / "a.zip", [("Kvasir-SEG\\images\\0.jpg", b"x")])
    with pytest.raises(ValueError, match="has a backslash in its name, .*; zip the files again"):
        Archive(path)


@pytest.mark.parametrize(
    "name", ["a.jpg", "./a.jpg", "a//b.jpg", "a/./b.jpg", ".hidden", "a..b.jpg", "...", "a b/ü.jpg"]
)
def test_odd_names_that_stay_inside_are_read(tmp_path, name):
    with Archive(write(tmp_path / "odd.zip", [(name, b"content")])) as archive:
        assert archive.read(name) == b"content"


def patched_central_directory(content: bytes, offset: int, value: bytes) -> bytes:
    place = content.index(b"PK\x01\x02") + offset
    return content[:place] + value + content[place + len(value) :]


def test_an_encrypted_member_is_refused(tmp_path):
    content = write(tmp_path / "a.zip", [("a.jpg", b"secret")]).read_bytes()
    (tmp_path / "b.zip").write_bytes(patched_central_directory(content, 8, struct.pack("<H", 1)))
    with pytest.raises(ValueError, match="is encrypted"):
        Archive(tmp_path / "b.zip")


def test_a_member_that_claims_too_many_bytes_is_refused_unread(tmp_path):
    content = write(tmp_path / "a.zip", [("a.jpg", random.Random(0).randbytes(2**19))]).read_bytes()
    (tmp_path / "b.zip").write_bytes(patched_central_directory(content, 24, struct.pack("<L", MAX_MEMBER_BYTES + 1)))
    with pytest.raises(ValueError, match=r"unpacks to 268,435,457 bytes"):
        Archive(tmp_path / "b.zip")


def test_a_member_that_lies_about_its_size_gives_no_more_than_it_claims(tmp_path):
    """The directory says 10 bytes, the stream holds 500: the CRC of what is read does not hold."""
    content = write(tmp_path / "a.zip", [("a.jpg", b"0123456789" * 50)]).read_bytes()
    (tmp_path / "b.zip").write_bytes(patched_central_directory(content, 24, struct.pack("<L", 10)))
    with Archive(tmp_path / "b.zip") as archive, pytest.raises(ValueError, match=r"a\.jpg is damaged"):
        archive.read("a.jpg")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(10)], ids=["empty", "text", "cut end"])
def test_what_is_no_zip_is_refused(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match="not a readable ZIP archive"):
        Archive(tmp_path / "a.zip")


def image_archive(seed):
    """Members as in a real archive: bytes that hardly compress."""
    rng, buffer = random.Random(seed), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(6):
            archive.writestr(f"images/ISIC_{index:07}.jpg", rng.randbytes(400))
    return buffer.getvalue()


def read_all(path):
    with Archive(path) as archive:
        return {name: archive.read(name) for name in archive.names}


@pytest.mark.parametrize("count", [150, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_flipped_byte_never_passes_for_content(tmp_path, count):
    """Any one flipped byte: an error, or exactly the members' true bytes under true names (the flip hit a field that
    nobody reads), or a member out of sight, which the pairing of images and masks reports."""
    content = image_archive(0)
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    truth, rng, refused = read_all(path), random.Random(count), 0
    for _ in range(count):
        place, flip = rng.randrange(len(content)), rng.randrange(1, 256)
        path.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
        try:
            found = read_all(path)
        except ValueError:
            refused += 1
            continue
        assert set(found.values()) <= set(truth.values())
    assert refused > count * 0.8


def test_every_cut_is_refused(tmp_path):
    content = image_archive(1)
    for length in random.Random(0).sample(range(len(content)), 200):
        (tmp_path / "a.zip").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"a\.zip"):
            read_all(tmp_path / "a.zip")
