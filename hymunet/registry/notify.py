"""A decision told to another program: JSON by HTTP, signed with a shared secret as webhooks are (HMAC-SHA256)."""

import hashlib
import hmac
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from hymunet.addresses import without_secrets

SECRET = "HYMUNET_NOTIFY_SECRET"
HEADER = "X-Hymunet-Signature"  # sha256=<hex of the HMAC over the body>
TRIES, TIMEOUT, PAUSE = 3, 10.0, 1.0  # seconds


def notifier(url: str | None) -> Callable[[Mapping[str, Any]], str | None]:
    """What tells an event to `url`, and returns why that failed, or None: the decision stands in any case.

    Without a url nothing is told. Raises ValueError, before anything is decided, for what is no http(s) address and
    where HYMUNET_NOTIFY_SECRET is not set.
    """
    if url is None:
        return lambda event: None
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"--notify {url}: expected an address with http:// or https://")
    if not (secret := os.environ.get(SECRET)):
        raise ValueError(f"--notify signs what it sends: set {SECRET} to the secret that the receiver knows")
    return lambda event: _told(url, secret, json.dumps(event, sort_keys=True).encode())


def signature(secret: str, body: bytes) -> str:
    """The header's value."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def _told(url: str, secret: str, body: bytes) -> str | None:
    headers = {"Content-Type": "application/json", HEADER: signature(secret, body)}
    problem = ""
    for attempt in range(TRIES):
        time.sleep(PAUSE * attempt)
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=TIMEOUT):
                return None
        except urllib.error.HTTPError as error:
            problem = f"answered {error.code}"
            if error.code < 500:
                break
        except (OSError, ValueError) as error:
            problem = " ".join(str(error).split())
    return f"{without_secrets(url)} was not told: {problem}"
