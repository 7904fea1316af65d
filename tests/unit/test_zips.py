"""Every reader of ZIPs against archives that differ in one bit or end early: an error that names it, or an answer."""

import contextlib
import errno
import io
import os
import zipfile

import cv2
import numpy as np
import pytest

from hymunet.data.acquire.archives import Archive
from hymunet.data.prepare.native import NATIVE_MASKS, NativeReader
from hymunet.portable.target import is_program_of_ours
from hymunet.prediction.sources import entries
from hymunet.study.store import FILES, _unpack


def archive(names, content, method=zipfile.ZIP_STORED):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as opened:
        for name in names:
            opened.writestr(zipfile.ZipInfo(name), content, method)
    return packed.getvalue()


MASK = cv2.imencode(".png", np.eye(4, dtype=np.uint8) * 255)[1].tobytes()


def damaged(whole):
    for place in range(len(whole)):
        for bit in (0, 5, 6):
            yield whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
    for length in range(0, len(whole), 7):
        yield whole[:length]


def originals(path):
    with Archive(path) as opened:
        for name in opened.names:
            opened.read(name)


def native_masks(path):
    masks = NativeReader(path.parent)
    for name in ("a", "b"):
        masks.read(name)


def images_to_predict(path):
    for entry in entries([str(path)], path.parent / "out"):
        if not entry.problem:
            entry.read()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize(
    ("read", "name"),
    [(originals, "images.zip"), (native_masks, NATIVE_MASKS), (images_to_predict, "images.zip")],
)
def test_a_damaged_archive_is_named(tmp_path, read, name, method):
    path = tmp_path / name
    said = []
    for content in damaged(archive(("a.png", "b.png"), MASK, method)):
        path.write_bytes(content)
        try:
            read(path)
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 300
    assert [line for line in said if name not in line] == []


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_of_anothers_is_none_of_ours(tmp_path, method):
    path = tmp_path / "model.pt2"
    for content in damaged(archive(FILES[:1], b"a study's history", method)):
        _unpack(content, tmp_path)
    for content in damaged(archive(("model/hymunet.json",), b'{"hymunet.weights_sha256": ""}', method)):
        path.write_bytes(content)
        is_program_of_ours(path)


def lose(path):
    """The disk below the open file: from now on the kernel answers a read with EIO, as of addresses without memory."""
    broken = os.open("/proc/self/mem", os.O_RDONLY)
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.path.realpath(f"/proc/self/fd/{number}") == str(path):
                os.dup2(broken, int(number))
    os.close(broken)


def of_an_archive(path):
    with Archive(path) as opened:
        lose(path)
        opened.read("b.png")


def of_native_masks(path):
    masks = NativeReader(path.parent)
    lose(path)
    masks.read("b")


def of_images_to_predict(path):
    first = next(iter(entries([str(path)], path.parent / "out")))
    lose(path)
    first.read()


@pytest.mark.parametrize(
    ("read", "name"),
    [(of_an_archive, "images.zip"), (of_native_masks, NATIVE_MASKS), (of_images_to_predict, "images.zip")],
)
def test_a_disk_that_cannot_be_read_is_no_damaged_archive(tmp_path, read, name):
    path = tmp_path / name
    path.write_bytes(archive(("a.png", "b.png"), os.urandom(2**20)))
    with pytest.raises(OSError, match="Input/output error") as found:
        read(path)
    assert (found.value.errno, found.value.filename) == (errno.EIO, str(path))
