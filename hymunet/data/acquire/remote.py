"""Where archives are fetched from: a web server, an S3 bucket or a folder, behind one interface.

What a remote raises says what to do next: `Missing` and `Refused` will not change by trying again, `Changed` means that
the file is another one than before, `RangesUnusable` that parts cannot be had; any other OSError is worth another try.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from hymunet import silence
from hymunet.addresses import holds_secrets, said, without_secrets

CHUNK = 2**18
TIMEOUT = (silence.CONNECT, silence.READ)


class Missing(OSError):
    """There is no such file."""


class Refused(OSError):
    """Access is denied."""


class Changed(OSError):
    """The file is no longer the one that was begun."""


class RangesUnusable(OSError):
    """The server ignores ranges, or answers with others than were asked for."""


@dataclass(frozen=True)
class Info:
    size: int | None
    tag: str | None  # changes when the content does
    ranges: bool  # parts can be had


class Remote(Protocol):
    def info(self, name: str) -> Info: ...

    def read(self, name: str, start: int, stop: int | None, tag: str | None) -> Iterator[bytes]:
        """The bytes start..stop-1 in chunks; stop None: the whole file, however long. A short answer just ends."""
        ...


def remote(base: str) -> Remote:
    """ValueError when the address is neither http(s), s3://bucket/prefix nor an existing folder, or holds a secret."""
    if holds_secrets(base):
        raise ValueError(
            f"{without_secrets(base)}: the address holds a user, a password or a query; leave them out: for http(s) "
            "they belong into ~/.netrc, for S3 into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if base.startswith(("http://", "https://", "s3://")) and not _names_a_host(base):
        raise ValueError(f"{base}: no address of a server or a bucket; correct the mirror")
    if base.startswith(("http://", "https://")):
        return Web(base)
    if base.startswith("s3://"):
        return Bucket(base)
    if not Path(base).is_dir():
        raise ValueError(
            f"{without_secrets(base)}: neither an http(s) or s3:// address nor an existing folder; correct the mirror"
        )
    return Folder(base)


def _names_a_host(address: str) -> bool:
    """False for an address that no try can reach: without host or bucket, or with a port that is none."""
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0) and not re.search(r"\s", parts.netloc)
    except ValueError:
        return False


class Web:
    def __init__(self, base: str) -> None:
        self.base = base.rstrip("/")

    def info(self, name: str) -> Info:
        with self._get(name, {"Range": "bytes=0-0"}) as response:
            tag = _tag(response)
            place = re.fullmatch(r"bytes 0-0/(\d+)", response.headers.get("Content-Range", ""))
            if response.status_code == 206 and place:
                return Info(int(place[1]), tag, True)
            length = response.headers.get("Content-Length")
            return Info(int(length) if length and response.status_code == 200 else None, tag, False)

    def read(self, name: str, start: int, stop: int | None, tag: str | None) -> Iterator[bytes]:
        headers = {} if stop is None else {"Range": f"bytes={start}-{stop - 1}"}
        if stop is not None and tag:
            headers["If-Range"] = tag
        with self._get(name, headers) as response:
            found = _tag(response)
            if tag and found and found != tag:
                raise Changed(f"{name} changed on the server ({tag} became {found})")
            if stop is not None:
                if response.status_code != 206:
                    raise RangesUnusable(f"{name}: the server sent the whole file for a part of it")
                place = response.headers.get("Content-Range", "")
                if not place.startswith(f"bytes {start}-{stop - 1}/"):
                    raise RangesUnusable(f"{name}: asked for bytes {start}-{stop - 1}, the server sent {place!r}")
            # As they come: of a whole chunk that is cut short, what came would be lost.
            yield from _translated(iter(lambda: response.raw.read1(CHUNK), b""))

    def _get(self, name: str, headers: dict[str, str]) -> Any:
        import requests

        try:
            response = requests.get(
                f"{self.base}/{name}", headers={"Accept-Encoding": "identity", **headers}, stream=True, timeout=TIMEOUT
            )
        except requests.RequestException as error:
            raise ConnectionError(f"{self.base}: {_plain(error)}") from None
        if response.ok:
            return response
        response.close()
        kind = {404: Missing, 410: Missing, 401: Refused, 403: Refused, 416: Changed}.get(response.status_code, OSError)
        raise kind(f"{self.base}/{name}: HTTP {response.status_code} {response.reason}")


class Bucket:
    """Signed when credentials are to be found, unsigned otherwise; AWS_ENDPOINT_URL is honoured."""

    def __init__(self, base: str) -> None:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        self.base = base
        self.bucket, _, prefix = base.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix.strip('/')}/".lstrip("/")
        try:
            session = boto3.Session()
            unsigned = {} if session.get_credentials() else {"signature_version": UNSIGNED}
            config = Config(
                connect_timeout=TIMEOUT[0],
                read_timeout=TIMEOUT[1],
                retries={"total_max_attempts": 1},
                max_pool_connections=16,
                **unsigned,
            )
            self.client = session.client("s3", region_name=session.region_name or "us-east-1", config=config)
        except (BotoCoreError, ValueError) as error:
            raise ValueError(f"{base}: {_plain(error)}; correct the settings of AWS (AWS_…, ~/.aws)") from None

    def info(self, name: str) -> Info:
        entry = self._call(self.client.head_object, name)
        return Info(entry["ContentLength"], entry["ETag"], True)

    def read(self, name: str, start: int, stop: int | None, tag: str | None) -> Iterator[bytes]:
        options = {} if stop is None else {"Range": f"bytes={start}-{stop - 1}"}
        if tag:
            options["IfMatch"] = tag
        entry = self._call(self.client.get_object, name, **options)
        yield from _translated(entry["Body"].iter_chunks(CHUNK))

    def _call(self, method: Any, name: str, **options: str) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

        try:
            return method(Bucket=self.bucket, Key=f"{self.prefix}{name}", **options)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            kind = {404: Missing, 401: Refused, 403: Refused, 412: Changed, 416: Changed}.get(status, OSError)
            raise kind(f"{self.base}/{name}: {_plain(error)}") from None
        except ParamValidationError as error:
            raise ValueError(f"{self.base}: {_plain(error)}; correct the mirror") from None
        except BotoCoreError as error:
            raise ConnectionError(f"{self.base}: {_plain(error)}") from None


class Folder:
    def __init__(self, base: str) -> None:
        self.base = Path(base)

    def info(self, name: str) -> Info:
        try:
            status = (self.base / name).stat()
        except FileNotFoundError:
            raise Missing(f"{self.base / name}: no such file") from None
        return Info(status.st_size, f"{status.st_size}-{status.st_mtime_ns}", True)

    def read(self, name: str, start: int, stop: int | None, tag: str | None) -> Iterator[bytes]:
        if self.info(name).tag != tag and tag:
            raise Changed(f"{self.base / name} changed while it was read")
        with (self.base / name).open("rb") as file:
            file.seek(start)
            left = stop - start if stop is not None else None
            while chunk := file.read(CHUNK if left is None else min(CHUNK, left)):
                left = None if left is None else left - len(chunk)
                yield chunk


def _tag(response: Any) -> str | None:
    tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
    return None if tag and tag.startswith("W/") else tag  # a weak tag does not promise equal bytes


def _translated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whatever breaks in the middle of a body, as ConnectionError."""
    import requests
    import urllib3
    from botocore.exceptions import BotoCoreError

    try:
        yield from chunks
    except (requests.RequestException, urllib3.exceptions.HTTPError, BotoCoreError, OSError) as error:
        raise ConnectionError(_plain(error)) from None


def _plain(error: Exception) -> str:
    return said(error)[:300]
