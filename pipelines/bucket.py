"""Files in a folder or a bucket, by one address: s3://bucket/prefix, or a path that every pod sees."""

import hashlib
import os
from pathlib import Path
from typing import Any

from hymunet import atomic


class Place:
    """A file is there whole or not at all. Raises OSError where the store fails, FileNotFoundError for what is not."""

    def __init__(self, address: str) -> None:
        import fsspec

        self.address = address.rstrip("/")
        self.fs, self.root = fsspec.core.url_to_fs(self.address)
        self.local = "file" in self.fs.protocol if isinstance(self.fs.protocol, tuple) else self.fs.protocol == "file"

    def versions(self) -> dict[str, str]:
        """Name below the address -> what changes with the file's content: the store's tag, or size and time."""
        self.fs.invalidate_cache()
        try:
            found: dict[str, Any] = self.fs.find(self.root, detail=True)
        except FileNotFoundError:
            return {}
        return {os.path.relpath(path, self.root): _version(entry) for path, entry in sorted(found.items())}

    def read(self, name: str) -> bytes:
        return self.fs.cat_file(f"{self.root}/{name}")

    def write(self, name: str, content: bytes) -> None:
        path = f"{self.root}/{name}"
        if self.local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            atomic.write(Path(path), content)
        else:
            self.fs.pipe_file(path, content)


def _version(entry: dict[str, Any]) -> str:
    known = entry.get("ETag") or f"{entry['size']} {entry.get('mtime')}"
    return hashlib.sha256(str(known).encode()).hexdigest()[:16]
