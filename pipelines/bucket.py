"""Files in a folder or a bucket, by one address: s3://bucket/prefix, or a path that every pod sees."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hymunet import atomic
from hymunet.addresses import holds_secrets, said, without_secrets
from hymunet.data.acquire.pairs import leftover
from pipelines.object_store import give_up_in_time

# s3fs itself tries five times, and waits 15 s for each answer; its client's own tries come on top, which are five, too.
SOON = {"config_kwargs": {"retries": {"total_max_attempts": 2}}}


class Place:
    """A file is there whole or not at all. Raises OSError where the store fails, FileNotFoundError for what is not;
    ValueError for an address with a secret in it."""

    def __init__(self, address: str) -> None:
        import fsspec

        if holds_secrets(address):
            raise ValueError(
                f"{without_secrets(address)}: the address holds a user, a password or a query; leave them out, and set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        give_up_in_time()
        self.address = address.rstrip("/")
        self.fs, self.root = fsspec.core.url_to_fs(self.address, **(SOON if address.startswith("s3://") else {}))
        self.local = "file" in self.fs.protocol if isinstance(self.fs.protocol, tuple) else self.fs.protocol == "file"

    def versions(self) -> dict[str, str]:
        """Name below the address -> what changes with the file's content: the store's tag, or size and time.

        Names are as the store has them: `a//b` and `a/b` are two objects.
        """
        self.fs.invalidate_cache()
        try:
            with self._answering():
                found: dict[str, Any] = self._files() if self.local else self.fs.find(self.root, detail=True)
        except FileNotFoundError:
            return {}
        return {path.removeprefix(f"{self.root}/"): _version(entry) for path, entry in sorted(found.items())}

    def _files(self) -> dict[str, Any]:
        """As `find` of fsspec, which leaves out what cannot be listed."""
        found = {}
        for place, _, names in os.walk(self.root, onerror=self._refuse):
            for path in (f"{place}/{name}" for name in names):
                with suppress(FileNotFoundError):
                    found[path] = self.fs.info(path)
        return found

    def _refuse(self, error: OSError) -> None:
        """Of a folder that cannot be looked into, unless it is gone by now, or is a system's own, as lost+found."""
        below = os.path.relpath(error.filename, self.root)
        if not isinstance(error, FileNotFoundError) and not leftover(f"{below}/file"):
            raise error

    def read(self, name: str) -> bytes:
        with self._answering():
            return self.fs.cat_file(f"{self.root}/{name}")

    def write(self, name: str, content: bytes) -> None:
        path = f"{self.root}/{name}"
        if self.local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            atomic.write(Path(path), content)
            return
        with self._answering():
            self.fs.pipe_file(path, content)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """What the client of a store raises, which has no common base, as an OSError that names the place."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise ConnectionError(f"{self.address}: {said(error)}") from error


def _version(entry: dict[str, Any]) -> str:
    known = entry.get("ETag") or f"{entry['size']} {entry.get('mtime')}"
    return hashlib.sha256(str(known).encode()).hexdigest()[:16]
