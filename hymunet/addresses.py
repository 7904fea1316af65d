"""Addresses without the secrets that people write into them."""

import re

# A name or password before the host; a password may hold `/` and `@`, and a port is none.
_USER = re.compile(r"(?<=//)(?:[^\s/@'\"]*|[^\s/:@'\"]*:(?!\d+(?:[/?#\s'\"]|$))[^\s'\"]*)@")
_QUERY = re.compile(r"(?<=[\w/.])\?[^\s'\"]*=[^\s'\"]*")  # signatures and tokens, whatever they are called
_ADDRESS = re.compile(r"[a-zA-Z][\w+.-]*://")


def without_secrets(text: str) -> str:
    """Addresses in the text lose user, password and query."""
    return _QUERY.sub("?…", _USER.sub("", text))


def said(error: BaseException) -> str:
    """What an error says, as logs and records may hold it: in one line, without the secrets of addresses, which clients
    of stores name; its kind where it says nothing."""
    return without_secrets(" ".join(str(error).split())) or type(error).__name__


def holds_secrets(address: str) -> bool:
    """True when an address names a user, a password or a query, which may sign it."""
    return bool(_ADDRESS.match(address)) and ("?" in address or without_secrets(address) != address)
