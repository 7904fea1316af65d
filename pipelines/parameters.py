"""The parameters of a run: a params.yaml or a profile, with single keys changed."""

import copy
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from hymunet import params

PROFILES = Path("profiles")


def content(path: Path, profile: str | None, overrides: list[str]) -> dict[str, Any]:
    """The whole content of params.yaml for a run, checked. ValueError names the key, the value and what is allowed."""
    chosen = params.read_yaml(path)
    if profile:
        chosen = _merged(params.read_yaml(PROFILES / "paper.yaml"), params.read_yaml(PROFILES / f"{profile}.yaml"))
    for text in overrides:
        key, value = pair(text)
        *sections, name = key.split(".")
        section = chosen
        for part in sections:
            section = section[part] if isinstance(section.get(part), dict) else {}
        if name not in section:
            raise ValueError(f"-S {text}: params.yaml has no key {key}")
        section[name] = YAML(typ="safe", pure=True).load(value)
    params.check(chosen, profile or str(path))
    return chosen


def pair(text: str) -> tuple[str, str]:
    """`key=value` as its two halves."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ValueError(f"{text!r}: expected KEY=VALUE")
    return key, value


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(base)
    for key, value in over.items():
        below = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if below else value
    return merged
