"""Where checkpoints live: a folder or an S3 prefix, with the one promise that a name holds a whole object or none."""

import os
import secrets
from pathlib import Path
from typing import Any, Protocol

from hymunet import silence
from hymunet.addresses import holds_secrets, without_secrets
from hymunet.places import lasting

ATTEMPTS = 5  # of one request to an object store


class Storage(Protocol):
    """What is not there raises FileNotFoundError when read. Every other failure is an OSError: it may pass."""

    def write(self, name: str, content: bytes) -> None: ...
    def read(self, name: str) -> bytes: ...
    def delete(self, name: str) -> None: ...
    def names(self) -> list[str]: ...
    def sweep(self) -> None: ...  # what a writer that was killed left unfinished; for one who writes here alone


def location() -> str:
    """HYMUNET_CHECKPOINTS: a folder, or s3://bucket/prefix for machines without a disk that lasts."""
    return os.environ.get("HYMUNET_CHECKPOINTS") or "checkpoints"


def open_storage(location: str, key: str, what: str = "checkpoints") -> Storage:
    """`location`/`key` as storage of `what`, for messages; location is a folder or `s3://bucket/prefix`.

    Raises ValueError naming the location when it must not be written, OSError when it cannot be for now.
    """
    if location.startswith("s3://"):
        bucket, prefix = _bucket(location, what)
        return S3(bucket, "/".join(part for part in (prefix.strip("/"), key) if part), what)
    return Folder(_folder(location, what) / key, what)


def keys(location: str) -> list[str]:
    """Whose checkpoints are there: the second argument of `open_storage`, for every run."""
    if not location.startswith("s3://"):
        return sorted(path.name for path in _folder(location).glob("*") if path.is_dir())
    bucket, prefix = _bucket(location)
    names = S3(bucket, prefix.strip("/")).names()
    return sorted({name.partition("/")[0] for name in names if "/" in name})


def _bucket(location: str, what: str = "checkpoints") -> tuple[str, str]:
    if holds_secrets(location):
        raise ValueError(
            f"{without_secrets(location)}: the address of {what} holds a user, a password or a query; leave them out, "
            "and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    if not bucket:
        raise ValueError(f"{location}: names no bucket; {what} are kept in a folder or at s3://bucket/prefix")
    return bucket, prefix


def _folder(location: str, what: str = "checkpoints") -> Path:
    if "://" in location:
        raise ValueError(f"{without_secrets(location)}: {what} are kept in a folder or at s3://bucket/prefix")
    return Path(location)


class Folder:
    def __init__(self, path: Path, what: str = "checkpoints") -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self.write(".probe", b"")
            self.delete(".probe")
        except OSError as error:
            kind = ValueError if lasting(error) else OSError
            raise kind(f"{path}: {what} cannot be written here ({error.strerror})") from None

    def write(self, name: str, content: bytes) -> None:
        partial = self.path / f".{name}.{secrets.token_hex(4)}.tmp"  # its own: others may write here at the same time
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path / name)
            self._sync()
        except OSError as error:
            partial.unlink(missing_ok=True)
            if error.filename in (None, str(partial)):  # a full disk names none
                error.filename = str(self.path / name)
            raise

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def delete(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        return sorted(entry.name for entry in self.path.iterdir() if not entry.name.endswith(".tmp"))

    def sweep(self) -> None:
        for leftover in self.path.glob("*.tmp"):
            leftover.unlink(missing_ok=True)

    def _sync(self) -> None:
        """Makes the rename itself durable."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class S3:
    """S3 shows an object whole or not at all, and a list right after a write is up to date."""

    def __init__(self, bucket: str, prefix: str, what: str = "checkpoints") -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

        self.bucket, self.prefix = bucket, prefix
        self.errors = (BotoCoreError, ClientError)
        bounds = {"connect_timeout": silence.CONNECT, "read_timeout": silence.READ}
        self.client = boto3.client("s3", config=Config(**bounds, retries={"total_max_attempts": ATTEMPTS}))
        try:
            self.write(".probe", b"")
            self.delete(".probe")
        except OSError as error:
            status = _answer(error.__cause__, "ResponseMetadata").get("HTTPStatusCode", 0)
            refused = 400 <= status < 500 and status not in (408, 429)  # else the store is away for a while
            kind = ValueError if refused or isinstance(error.__cause__, ParamValidationError) else ConnectionError
            reason = " ".join(str(error).split())
            raise kind(f"s3://{bucket}/{prefix}: {what} cannot be written here ({reason})") from None

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def write(self, name: str, content: bytes) -> None:
        try:
            self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=content)
        except self.errors as error:
            raise OSError(without_secrets(str(error))) from error

    def read(self, name: str) -> bytes:
        try:
            return self.client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"].read()
        except self.errors as error:
            kind = FileNotFoundError if _answer(error, "Error").get("Code") == "NoSuchKey" else OSError
            raise kind(f"s3://{self.bucket}/{self._key(name)}: {without_secrets(str(error))}") from error

    def delete(self, name: str) -> None:
        try:
            self.client.delete_object(Bucket=self.bucket, Key=self._key(name))
        except self.errors as error:
            raise OSError(without_secrets(str(error))) from error

    def names(self) -> list[str]:
        folder = self._key("")
        try:
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=folder)
            return sorted(entry["Key"][len(folder) :] for page in pages for entry in page.get("Contents", []))
        except self.errors as error:
            raise OSError(without_secrets(str(error))) from error

    def sweep(self) -> None:
        """Nothing: an object that is not whole is not there."""


def _answer(error: BaseException | None, part: str) -> dict[str, Any]:
    """A part of what the store answered; nothing where it did not."""
    return (getattr(error, "response", None) or {}).get(part, {})
