"""A published source's archives, whole and with the right hash, or in one line why not.

They are those that their publisher hashed, or those that `sums` names: what the pipeline runs on is told by its hash in
every case, so that another archive at the same address is an error and never another result. They are kept for good, in
a folder `store` beside the step's output, which holds links to them and may be emptied and filled again.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

from hymunet import atomic
from hymunet.addresses import without_secrets
from hymunet.data.acquire.archives import Archive
from hymunet.data.acquire.remote import Missing, Refused, Remote, remote
from hymunet.data.acquire.sections import Isic2018, Published
from hymunet.data.acquire.source import ArchiveFile, Source
from hymunet.data.acquire.transfer import WrongBytes, fetch, file_sha256, patiently

SUMS = "SHA256SUMS"


def obtain(name: str, source: Source, section: Published, store: Path, folder: Path) -> dict[str, str]:
    """Archive name -> SHA-256. The archives are in `store`, and linked under their names in `folder`.

    name: the source's. Raises ValueError when an archive cannot be had, or is another one than is expected.
    """
    official = isinstance(section, Isic2018) and section.official_test
    archives = source.archives + (source.extra if official else ())
    published = {archive.name: archive.sha256 for archive in archives if archive.sha256}
    wanted = section.sums or sums_sha256(published)
    store.mkdir(parents=True, exist_ok=True)
    found = _stored(archives, store)
    if sums_sha256(found) != wanted:
        if section.mirror:
            found = _from_mirror(section.mirror, archives, section.sums is None, store)
        else:
            found = {archive.name: _from_hosts(source.hosts, archive, store / archive.name) for archive in archives}
    if (sums := sums_sha256(found)) != wanted:
        _require_archives(found, store, section.mirror)
        others = ", ".join(sorted(file for file in found if found[file] != published.get(file)))
        expected = f"those that data.{name}.sums names" if section.sums else f"the published ones ({others})"
        raise ValueError(
            f"{without_secrets(section.mirror or '')} holds other archives than {expected}; to take them as they are, "
            f"set data.{name}.sums to {sums}"
        )
    for file in found:
        _link(store / file, folder / file)
    return found


def sums_text(found: dict[str, str]) -> str:
    """The content of SHA256SUMS, sorted by name."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(found.items()))


def sums_sha256(found: dict[str, str]) -> str:
    """One hash for all the archives: that of SHA256SUMS."""
    return hashlib.sha256(sums_text(found).encode()).hexdigest()


def _stored(archives: tuple[ArchiveFile, ...], store: Path) -> dict[str, str]:
    paths = [store / archive.name for archive in archives]
    return {path.name: file_sha256(path) for path in paths} if all(path.is_file() for path in paths) else {}


def _from_hosts(hosts: tuple[str, ...], archive: ArchiveFile, target: Path) -> str:
    """From the first of the official hosts that has the archive as published."""
    problems, transient = [], False
    for host in hosts:
        try:
            return fetch(remote(host), archive.name, target, archive.sha256, archive.bytes)
        except WrongBytes as error:
            problems.append(f"{error}; the file at {host} is not the one published: name a data mirror that has it")
        except OSError as error:
            if error.errno is not None:
                raise
            problems.append(str(error))
            transient |= _transient(error)
    kind = ConnectionError if transient else ValueError
    raise kind(f"{archive.name} could not be fetched: " + "; ".join(problems))


def _from_mirror(mirror: str, archives: tuple[ArchiveFile, ...], official: bool, store: Path) -> dict[str, str]:
    """Whatever the mirror has under the archives' names, verified against its own SHA256SUMS where it has that.

    official: the published archives are expected; what has a published archive's size is verified against its hash.
    """
    source = remote(mirror)
    listed = _listed(source, mirror)
    found = {}
    for archive in archives:
        try:
            info = patiently(lambda name=archive.name: source.info(name))  # type: ignore[misc]
            expected = listed.get(archive.name) or (archive.sha256 if official and info.size == archive.bytes else None)
            target, record = store / archive.name, store / f".{archive.name}.json"
            seen = json.dumps({"mirror": without_secrets(mirror), "size": info.size, "tag": info.tag})
            if expected is None and (
                info.tag is None or not record.is_file() or record.read_text(encoding="utf-8") != seen
            ):
                target.unlink(missing_ok=True)  # another one, as far as can be told
            found[archive.name] = fetch(source, archive.name, target, expected)
            atomic.write(record, seen)
        except WrongBytes as error:
            raise ValueError(f"{error}; mend the file at {without_secrets(mirror)} or name another mirror") from None
        except OSError as error:
            if error.errno is not None:
                raise
            kind = ConnectionError if _transient(error) else ValueError
            raise kind(f"{archive.name} could not be fetched: {error}") from None
    return found


def _require_archives(found: dict[str, str], store: Path, mirror: str | None) -> None:
    """ValueError for a file that no hash would make an archive: cut short, a page of a login, refused members."""
    for name in found:
        try:
            Archive(store / name).close()
        except ValueError as error:
            where = without_secrets(mirror or "")
            raise ValueError(f"{error}. {where} has it so: mend it there, or name another mirror") from None


def _transient(error: OSError) -> bool:
    """Worth another try."""
    return not isinstance(error, Missing | Refused)


def _listed(source: Remote, mirror: str) -> dict[str, str]:
    """Name -> hash of the mirror's own SHA256SUMS; empty where there is none."""
    try:
        text = patiently(lambda: b"".join(source.read(SUMS, 0, None, None))).decode()
    except (Missing, Refused):  # a bucket that may not be listed says "forbidden" of what is not there
        return {}
    except UnicodeDecodeError:
        text = "?"
    lines = [re.fullmatch(r"([0-9a-fA-F]{64})\s+\*?(.+)", line) for line in text.splitlines() if line.strip()]
    if not all(lines):
        raise ValueError(f"{without_secrets(mirror)}/{SUMS}: expected lines of a hash and a file name")
    return {line[2]: line[1].lower() for line in lines if line}


def _link(kept: Path, target: Path) -> None:
    """`target` becomes another name of the file; where the file system has no links, a copy, and that is said."""
    if target.exists() and target.samefile(kept):
        return
    partial = target.with_name(f".{target.name}.link")
    partial.unlink(missing_ok=True)
    try:
        os.link(kept, partial)
    except OSError:
        shutil.copyfile(kept, partial)
        size = kept.stat().st_size
        print(f"download: {target}: copied, as links cannot be made here: {size:,} bytes more", file=sys.stderr)
    partial.replace(target)
