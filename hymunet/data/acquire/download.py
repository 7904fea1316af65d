"""Brings a source's archives into a folder, and writes down what they are."""

import json
from pathlib import Path
from typing import Any

from hymunet import atomic
from hymunet.data.acquire.archives import Archive, pack
from hymunet.data.acquire.published import SUMS, obtain, sums_text
from hymunet.data.acquire.sections import Data, Published
from hymunet.data.acquire.source import ArchiveFile
from hymunet.data.acquire.sources import SOURCES
from hymunet.data.acquire.transfer import alone, file_sha256

STORE = "archives"  # beside the folder: where fetched archives are kept for good


def download(section: Data, folder: Path) -> None:
    """Fills `folder` with the archives, `SHA256SUMS` and `source.json`. Archives that were fetched before are kept.

    One process at a time fills a folder; another waits, and finds everything there.
    """
    source, chosen = SOURCES[section.source], section.chosen
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        if isinstance(chosen, Published):
            found = obtain(section.source, source, chosen, folder.with_name(STORE), folder)
        else:
            assert source.members is not None
            (archive,) = source.archives
            pack(source.members(chosen), folder / archive.name)
            found = {archive.name: file_sha256(folder / archive.name)}
        for name in found:
            Archive(folder / name).close()
        atomic.write(folder / SUMS, sums_text(found))
        record: dict[str, Any] = {"source": section.source, "archives": _records(source.archives, found, folder)}
        if extra := tuple(archive for archive in source.extra if archive.name in found):
            record["extra"] = _records(extra, found, folder)
        atomic.write(folder / "source.json", json.dumps(record, indent=2) + "\n")


def _records(archives: tuple[ArchiveFile, ...], found: dict[str, str], folder: Path) -> list[dict[str, Any]]:
    names = sorted(archive.name for archive in archives)
    return [{"name": name, "bytes": (folder / name).stat().st_size, "sha256": found[name]} for name in names]
