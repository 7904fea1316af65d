"""Files that `hymunet predict` wrote, told from all others: only these are ever replaced."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

WRITER = "hymunet predict"
MARK = b"tEXtSoftware\0" + WRITER.encode()  # a PNG's own remark on who wrote it
HEAD = 33  # bytes of a PNG before its first remark
USE = "research use only; not a medical device"
_OPENS = f'{{"writer": "{WRITER}", '


def png(pixels: np.ndarray) -> bytes:
    """Grey (H, W) or BGR (H, W, 3) -> a PNG with our mark behind its head; compressed as far as costs no time."""
    content = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].data
    remark = struct.pack(">I", len(MARK) - 4) + MARK + struct.pack(">I", zlib.crc32(MARK))
    return b"".join((content[:HEAD], remark, content[HEAD:]))


def document(facts: dict[str, Any]) -> str:
    """JSON that opens with who wrote it."""
    return json.dumps({"writer": WRITER, "use": USE, **facts}) + "\n"


def written_by_us(path: Path) -> bool:
    """By the first bytes: a PNG with our mark, or a JSON document of ours."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEAD + 4 + len(MARK))
    return MARK in head or head.startswith(_OPENS.encode())
