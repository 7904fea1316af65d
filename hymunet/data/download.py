"""Brings a source's archives into a folder, whole and with the right hash, or says in one line why not.

From the official hosts the published hashes must hold. A mirror may carry its own `SHA256SUMS`, which then must hold;
where it has none, the hashes found are recorded, and that is said. `SHA256SUMS` in the folder tells what was accepted.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from tqdm import tqdm

from hymunet import atomic, params
from hymunet.data.archives import Archive
from hymunet.data.sources import SOURCES, ArchiveFile, Source

CHUNK = 2**20
SUMS = "SHA256SUMS"


def download(section: params.Data, folder: Path) -> None:
    """Fills `folder` with the archives, `SHA256SUMS` and `source.json`. A whole archive already there is kept."""
    source = SOURCES[section.source]
    folder.mkdir(parents=True, exist_ok=True)
    if section.source == "synthetic":
        _pack_synthetic(section, folder / source.archives[0].name)
        found = {source.archives[0].name: _sha256(folder / source.archives[0].name)}
    elif section.source == "folder":
        assert section.folder is not None
        _pack_folder(Path(section.folder), folder / source.archives[0].name)
        found = {source.archives[0].name: _sha256(folder / source.archives[0].name)}
    else:
        found = _fetch(source, section.mirror, folder)
    for name in found:
        Archive(folder / name).close()
    lines = [f"{digest}  {name}\n" for name, digest in sorted(found.items())]
    atomic.write(folder / SUMS, "".join(lines))
    archives = [
        {"name": name, "bytes": (folder / name).stat().st_size, "sha256": found[name]} for name in sorted(found)
    ]
    atomic.write(folder / "source.json", json.dumps({"source": section.source, "archives": archives}, indent=2) + "\n")


def _fetch(source: Source, mirror: str | None, folder: Path) -> dict[str, str]:
    found = {}
    sums = _mirror_sums(mirror) if mirror else None
    for archive in source.archives:
        expected = archive.sha256 if mirror is None or archive.sha256 is None else (sums or {}).get(archive.name)
        target = folder / archive.name
        if target.exists() and expected and _sha256(target) == expected:
            found[archive.name] = expected
            continue
        bases = [mirror] if mirror else list(source.hosts)
        digest = _first_that_works(bases, archive, target, expected)
        if mirror and expected is None and digest != archive.sha256:
            print(
                f"download: {archive.name}: {mirror} publishes no {SUMS} for it; recorded as found, sha256 {digest}",
                file=sys.stderr,
            )
        found[archive.name] = digest
    return found


def _first_that_works(bases: list[str], archive: ArchiveFile, target: Path, expected: str | None) -> str:
    problems = []
    for base in bases:
        try:
            return _copy(base, archive.name, target, expected)
        except OSError as error:
            problems.append(f"{base}: {error}")
    raise ValueError(f"{archive.name} could not be fetched: " + "; ".join(problems))


def _copy(base: str, name: str, target: Path, expected: str | None) -> str:
    partial = target.with_name(f"{target.name}.part")
    digest = hashlib.sha256()
    with _open(base, name) as (stream, size), partial.open("wb") as file:
        if size and size > shutil.disk_usage(target.parent).free:
            raise ValueError(f"{target}: {size:,} bytes do not fit on the disk; free space, or use another folder")
        with tqdm(total=size, unit="B", unit_scale=True, desc=name, disable=None) as bar:
            while chunk := stream.read(CHUNK):
                file.write(chunk)
                digest.update(chunk)
                bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
        if size and file.tell() != size:
            raise OSError(f"{name} ended after {file.tell():,} of {size:,} bytes")
    if expected and digest.hexdigest() != expected:
        partial.unlink()
        raise ValueError(
            f"{name} from {base}: sha256 {digest.hexdigest()}, expected {expected}; the file is not the one published"
        )
    partial.replace(target)
    return digest.hexdigest()


@contextmanager
def _open(base: str, name: str) -> Iterator[tuple[IO[bytes], int | None]]:
    """A stream of the file's bytes and its size, from a web address, a bucket or a folder."""
    if base.startswith(("http://", "https://")):
        import requests

        with requests.get(f"{base.rstrip('/')}/{name}", stream=True, timeout=60) as response:
            response.raise_for_status()
            response.raw.decode_content = True
            size = response.headers.get("Content-Length")
            yield response.raw, int(size) if size else None
    elif base.startswith("s3://"):
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        bucket, _, prefix = base.removeprefix("s3://").partition("/")
        try:
            entry = boto3.client("s3").get_object(Bucket=bucket, Key=f"{prefix.strip('/')}/{name}".lstrip("/"))
        except (BotoCoreError, ClientError) as error:
            raise OSError(str(error)) from None
        yield entry["Body"], entry["ContentLength"]
    else:
        path = Path(base) / name
        with path.open("rb") as file:
            yield file, path.stat().st_size


def _mirror_sums(mirror: str) -> dict[str, str] | None:
    try:
        with _open(mirror, SUMS) as (stream, _):
            lines = stream.read().decode().splitlines()
    except OSError:
        return None
    return {name.lstrip("*"): digest for digest, name in (line.split(maxsplit=1) for line in lines if line.strip())}


def _pack_synthetic(section: params.Data, target: Path) -> None:
    import cv2

    from hymunet.data.synthetic import draw

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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
