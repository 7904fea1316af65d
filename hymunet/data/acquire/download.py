"""Brings a source's archives into a folder, whole and with the right hash, or says in one line why not.

From the official hosts the published hashes must hold. A mirror may carry its own `SHA256SUMS`, which then must hold;
where it has none, the hashes found are recorded, and that is said. `SHA256SUMS` in the folder tells what was accepted.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from tqdm import tqdm

from hymunet import atomic, params
from hymunet.data.acquire.archives import Archive
from hymunet.data.acquire.remote import Missing, Refused, remote
from hymunet.data.acquire.sources import SOURCES, ArchiveFile, Source
from hymunet.data.acquire.transfer import WrongBytes, fetch, file_sha256, patiently

SUMS = "SHA256SUMS"


def download(section: params.Data, folder: Path) -> None:
    """Fills `folder` with the archives, `SHA256SUMS` and `source.json`. A whole archive already there is kept."""
    source = SOURCES[section.source]
    folder.mkdir(parents=True, exist_ok=True)
    if section.source == "synthetic":
        _pack_synthetic(section, folder / source.archives[0].name)
        found = {source.archives[0].name: file_sha256(folder / source.archives[0].name)}
    elif section.source == "folder":
        assert section.folder is not None
        _pack_folder(Path(section.folder), folder / source.archives[0].name)
        found = {source.archives[0].name: file_sha256(folder / source.archives[0].name)}
    else:
        archives = source.archives + (source.extra if section.official_test else ())
        found = _fetch(source, archives, section.mirror, folder)
    for name in found:
        Archive(folder / name).close()
    lines = [f"{digest}  {name}\n" for name, digest in sorted(found.items())]
    atomic.write(folder / SUMS, "".join(lines))
    record = {"source": section.source, "archives": _records(source.archives, found, folder)}
    if section.official_test and source.extra:
        record["extra"] = _records(source.extra, found, folder)
    atomic.write(folder / "source.json", json.dumps(record, indent=2) + "\n")


def _records(archives: tuple[ArchiveFile, ...], found: dict[str, str], folder: Path) -> list[dict[str, Any]]:
    names = sorted(archive.name for archive in archives)
    return [{"name": name, "bytes": (folder / name).stat().st_size, "sha256": found[name]} for name in names]


def _fetch(source: Source, archives: tuple[ArchiveFile, ...], mirror: str | None, folder: Path) -> dict[str, str]:
    """name -> SHA-256. Archives grow beside the folder, which a pipeline may empty, and move in when all are there."""
    staging = folder.with_name(f".{folder.name}.partial")
    published = _mirror_sums(mirror) if mirror else None
    found = {}
    for archive in archives:
        expected = (published or {}).get(archive.name) if mirror else archive.sha256
        target = folder / archive.name
        if expected and target.exists() and file_sha256(target) == expected:
            found[archive.name] = expected
            continue
        bases = (mirror,) if mirror else source.hosts
        found[archive.name] = _first_that_works(bases, archive, staging / archive.name, expected, mirror is None)
        if mirror and expected is None and found[archive.name] != archive.sha256:
            print(
                f"download: {archive.name}: {mirror} publishes no {SUMS} for it; its hash is recorded, not verified "
                f"against the official one: sha256 {found[archive.name]}",
                file=sys.stderr,
            )
    for name in found:
        if (staging / name).exists():
            (staging / name).replace(folder / name)
    shutil.rmtree(staging, ignore_errors=True)
    return found


def _first_that_works(
    bases: tuple[str, ...], archive: ArchiveFile, target: Path, expected: str | None, official: bool
) -> str:
    problems, transient = [], False
    for base in bases:
        try:
            return fetch(remote(base), archive.name, target, expected, archive.bytes if official else None)
        except WrongBytes as error:
            problems.append(
                f"{error}; the file at {base} is not the one published: mend it or name another data.mirror"
            )
        except OSError as error:
            if error.errno is not None:
                raise
            problems.append(str(error))
            transient |= not isinstance(error, Missing | Refused)
    kind = ConnectionError if transient else ValueError  # only the first is worth another try
    raise kind(f"{archive.name} could not be fetched: " + "; ".join(problems))


def _mirror_sums(mirror: str) -> dict[str, str] | None:
    source = remote(mirror)
    try:
        text = patiently(lambda: b"".join(source.read(SUMS, 0, None, None))).decode()
        return {name.lstrip("*"): digest for digest, name in (line.split(maxsplit=1) for line in text.splitlines())}
    except (Missing, Refused):  # a bucket that may not be listed says "forbidden" of what is not there
        return None
    except ValueError:
        raise ValueError(f"{mirror}/{SUMS}: expected lines of a hash and a file name") from None


def _pack_synthetic(section: params.Data, target: Path) -> None:
    import cv2

    from hymunet.data.acquire.synthetic import draw

    def members() -> Iterator[tuple[str, bytes]]:
        for index in tqdm(range(section.synthetic_images), desc="drawing", unit="image", disable=None):
            image, mask = draw(index, section.synthetic_size, section.synthetic_seed)
            for kind, pixels in (("images", image[..., ::-1]), ("masks", mask)):
                yield f"synthetic/{kind}/case_{index:05d}.png", cv2.imencode(".png", pixels)[1].tobytes()

    _pack(members(), target)


def _pack_folder(folder: Path, target: Path) -> None:
    for kind in ("images", "masks"):
        if not (folder / kind).is_dir():
            raise ValueError(f"data.folder {folder}: has no {kind}/; expected images/ and masks/ with matching names")
    paths = sorted(path for kind in ("images", "masks") for path in (folder / kind).rglob("*") if path.is_file())
    _pack(((f"folder/{path.relative_to(folder).as_posix()}", path.read_bytes()) for path in paths), target)


def _pack(members: Iterator[tuple[str, bytes]], target: Path) -> None:
    """A ZIP that depends on names and contents alone, written atomically."""
    partial = target.with_name(f"{target.name}.part")
    with partial.open("wb") as file:
        with ZipFile(file, "w", ZIP_STORED) as archive:
            for name, content in members:
                archive.writestr(ZipInfo(name), content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)
