"""A decision told to another program: JSON by HTTP, signed with a shared secret as webhooks are (HMAC-SHA256)."""

import hashlib
import hmac
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from hymunet.addresses import said, without_secrets

SECRET = "HYMUNET_NOTIFY_SECRET"
HEADER = "X-Hymunet-Signature"  # sha256=<hex of the HMAC over the body>
_BAD = re.compile(r"[\s\x00-\x1f\x7f]")  # what no address holds as it is
TRIES, TIMEOUT, PAUSE = 3, 10.0, 1.0  # seconds


def notifier(url: str | None) -> Callable[[Mapping[str, Any]], str | None]:
    """What tells an event to `url`, and returns why that failed, or None: the decision stands in any case.

    Without a url nothing is told. Raises ValueError, before anything is decided, for what is no http(s) address and
    where HYMUNET_NOTIFY_SECRET is not set.
    """
    if url is None:
        return lambda event: None
    if not _can_be_sent_to(url):
        raise ValueError(f"--notify {without_secrets(url)}: expected an address with http:// or https://")
    if urlsplit(url).username is not None:
        raise ValueError(
            f"--notify {without_secrets(url)}: the address holds a user, who is not sent; leave it out: the receiver "
            "knows us by the signature"
        )
    if not (secret := os.environ.get(SECRET)):
        raise ValueError(f"--notify signs what it sends: set {SECRET} to the secret that the receiver knows")
    return lambda event: _told(url, secret, json.dumps(event, sort_keys=True).encode())


def signature(secret: str, body: bytes) -> str:
    """The header's value."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """One is followed by a GET without the body: the event would be lost, and the receiver seem to be told."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _can_be_sent_to(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not _BAD.search(url)
    except ValueError:  # of a port
        return False


def _told(url: str, secret: str, body: bytes) -> str | None:
    headers = {"Content-Type": "application/json", HEADER: signature(secret, body)}
    problem, send = "", urllib.request.build_opener(_NoRedirects).open
    for attempt in range(TRIES):
        time.sleep(PAUSE * attempt)
        try:
            with send(urllib.request.Request(url, body, headers), timeout=TIMEOUT):
                return None
        except urllib.error.HTTPError as error:
            problem = f"answered {error.code}"
            if moved := error.code in range(300, 400) and error.headers.get("Location"):
                problem += f"; it has moved to {without_secrets(moved)}: name that address"
            if error.code < 500:
                break
        except HTTPException as error:
            problem = f"answered in no HTTP ({type(error).__name__}: {said(error)[:200]})"
        except (OSError, ValueError) as error:
            problem = said(error)
    return f"{without_secrets(url)} was not told: {problem}"
