"""What a record says it was made from, held against what is there: content hashes, and one line where they differ."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hymunet.places import require_folder

METRICS = "metrics.json"  # an evaluation's record
NAMES = {
    "weights_sha256": "weights",
    "data_sha256": "prepared images",
    "split_sha256": "split",
    "test_images_sha256": "test images",
    "per_image_sha256": "per_image.csv",
}


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepared_sha256(folder: Path) -> str:
    """Of the arrays that prepare wrote there, as its record `prepare.json` names it."""
    parts = "".join(sha256(folder / name) for name in ("images.npy", "masks.npy"))
    return hashlib.sha256(parts.encode()).hexdigest()


def read(path: Path, remedy: str) -> dict[str, Any]:
    """A JSON record; ValueError naming the file, with the remedy, when it is missing or damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}; {remedy}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path}: expected a record, found {type(record).__name__}; {remedy}")
    return record


def field(record: dict[str, Any], place: Path, remedy: str, *keys: str) -> Any:
    """What a record holds under these keys, one below the other; ValueError naming its file where there is none."""
    for key in keys:
        if not isinstance(record, dict) or key not in record:
            raise ValueError(f"{place}: holds no {'.'.join(keys)}, as a record of another kind or version; {remedy}")
        record = record[key]
    return record


def require_free(folder: Path, names: Collection[str], record: str, key: str) -> None:
    """Raises ValueError where files of these names lie in the folder and its own record, which has this key, does not:
    they are somebody else's, and would be overwritten."""
    require_folder(folder)
    there = sorted(name for name in names if (folder / name).exists())
    try:
        ours = key in read(folder / record, "")
    except ValueError:
        ours = False
    if there and not ours:
        raise ValueError(
            f"{folder}: holds {', '.join(there)}, not written by this command; name another folder with --output"
        )


def require(place: Path, record: dict[str, Any], key: str, other: Path, found: str, remedy: str) -> None:
    """Raises ValueError, naming both, unless the record at `place` was made from what `other` holds, hash `found`."""
    said = record.get(key)
    if said != found:
        named = said[:12] if isinstance(said, str) else "not named"
        raise ValueError(f"{place}: made from {NAMES[key]} {named}, but {other} holds {found[:12]}; {remedy}")
