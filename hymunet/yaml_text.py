"""YAML that people write, read or refused in a line. It is YAML 1.2, the dialect that DVC writes: `1e-3` is a number,
`no` a word."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError


def read(text: str | Path, called: str) -> Any:
    """The content of a file, or of a text. ValueError, which begins with `called`, for what is no YAML, holds a value
    that is not of its own kind, or contains itself."""
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ValueError(f"{called}not valid YAML: {_line(error)}") from None
    except OSError:
        raise
    except Exception as error:  # what makes values has no common base: `0x_`, 2018-13-45, `!!bool maybe`, [[[[…
        said = f"not readable ({_line(error)}); text that looks like a number or a date belongs in quotes"
        raise ValueError(f"{called}{said}") from None
    if _contains_itself(content, (), set()):
        raise ValueError(f"{called}endless, as an anchor in it contains itself; write it out, without & and *")
    return content


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _contains_itself(value: Any, within: tuple[int, ...], seen: set[int]) -> bool:
    """seen: what was looked into, as an anchor's value may stand in many places."""
    if not isinstance(value, dict | list) or (id(value) in seen and id(value) not in within):
        return False
    if id(value) in within:
        return True
    seen.add(id(value))
    parts = value.values() if isinstance(value, dict) else value
    return any(_contains_itself(part, (*within, id(value)), seen) for part in parts)
