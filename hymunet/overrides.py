"""Single values of params.yaml changed on the command line, `section.key=value`, as `dvc exp run -S` writes them."""

import copy
from collections.abc import Sequence
from typing import Any

from hymunet import yaml_text
from hymunet.addresses import without_secrets


def overridden(content: Any, texts: Sequence[str]) -> Any:
    """A copy of the content of a params.yaml with the values replaced; whether they are allowed, params.check says.

    Values are read as in the file: 3, 1e-3, true, null, [0.1, 0.9], text. ValueError for what is no SECTION.KEY=VALUE.
    """
    changed = copy.deepcopy(content)
    for text in texts:
        key, value = pair(text)
        *path, last = key.split(".")
        place = changed
        for part in path:
            place = place.get(part) if isinstance(place, dict) else None
        if not path or not all((*path, last)) or not isinstance(place, dict):
            raise ValueError(f"{without_secrets(text)!r}: expected SECTION.KEY=VALUE with a section of params.yaml")
        try:
            place[last] = yaml_text.read(value, "the value is ")
        except ValueError as error:
            raise ValueError(f"{without_secrets(text)!r}: {without_secrets(str(error))}") from None
    return changed


def pair(text: str) -> tuple[str, str]:
    """`key=value` as its two halves."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ValueError(f"{without_secrets(text)!r}: expected KEY=VALUE")
    return key, value
