"""Which sources a compiled part was made from: an editable install keeps those of an earlier state of the sources.

setup.py, which runs this file before the package can be imported, writes the sources' hash into each part; whatever
computes asks for it first, since results name the sources that they were computed by.
"""

import hashlib
from pathlib import Path

HERE = Path(__file__).parent
PARTS = {
    "ops/_scan_cpu.so": "ops/csrc",
    "data/prepare/_png.so": "data/prepare/csrc",
    "evaluation/_contours.so": "evaluation/csrc",
}
MARK = b"hymunet-sources-sha256:"
HEX = 64


def sources_sha256(folder: Path) -> str:
    """Of the names and the bytes of the files in it."""
    found = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        found.update(f"{file.name}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


def require_current(library: Path = HERE) -> None:
    """Raises ValueError for the first part that was made from other sources than those that lie beside it.

    A part that was not built is no fault: its work is done more slowly. library: the folder of the package.
    """
    for name, sources in PARTS.items():
        part, folder = library / name, library / sources
        if part.is_file() and folder.is_dir() and sources_sha256(folder) != _marked(part):
            raise ValueError(
                f"{part} was compiled from other sources than those in {folder}: compile it again with"
                " `pip install -e .`, or remove it and do without"
            )


def _marked(part: Path) -> str | None:
    """None for a part from before there was a mark."""
    _, mark, behind = part.read_bytes().partition(MARK)
    return behind[:HEX].decode("ascii", "replace") if mark else None
