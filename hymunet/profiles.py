"""params.yaml from a profile: the paper's protocol, with what a profile sets otherwise laid over it."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from hymunet import atomic, params
from hymunet.models import catalogue
from hymunet.overrides import overridden

BASE = "paper"
PLACES = ("mirror", "sums", "path")  # where a user's images are: no profile knows better


def write(name: str, target: Path, changes: Sequence[str] = ()) -> list[str]:
    """Replaces `target` (params.yaml) by profile `name` of the folder `profiles` beside it, `changes`
    (`section.key=value`) made; comments stay, and so do places of images that neither profile nor changes set.

    Returns the places that were kept, as `section.key=value`.

    Raises ValueError, and writes nothing, when there is no such profile or its values are not valid.
    """
    folder = target.parent / "profiles"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        there = ", ".join(known) or f"none in {folder.absolute()}; run from the project's root"
        raise ValueError(f"no profile {name!r}; there are: {there}")
    text = (folder / f"{BASE}.yaml").read_text(encoding="utf-8")
    base, over = YAML(typ="safe", pure=True).load(text), {}
    if name != BASE:
        over = _differences(folder / f"{name}.yaml")
        text = overlaid(text, over)
    kept = _places(target, base, over)
    if kept or changes:
        text = overlaid(text, overridden(YAML(typ="safe", pure=True).load(text), [*kept, *changes]))
    params.check(YAML(typ="safe", pure=True).load(text), f"profile {name}")
    atomic.write(target, text)
    return kept


def whole(file: Path) -> dict[str, Any]:
    """The content of a params file; a profile's, beside the paper's protocol, is laid over that, as by `write`.

    Raises ValueError for a file that holds no sections.
    """
    content, protocol = _differences(file), file.with_name(f"{BASE}.yaml")
    if file.name == protocol.name or not protocol.is_file():
        return content
    base = _differences(protocol)
    _overlay(base, content)
    return base


def _differences(file: Path) -> dict[str, Any]:
    found = params.read_yaml(file)
    if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
        raise ValueError(f"{file}: expected sections of params.yaml with the keys that differ, found {found!r:.40}")
    return found


def _places(target: Path, base: dict[str, Any], over: dict[str, Any]) -> list[str]:
    """The present file's places that differ from those of the paper's protocol and that the profile leaves open."""
    content = params.read_yaml(target) if target.is_file() else None
    present = content.get("data") if isinstance(content, dict) else None
    kept = []
    for source, values in present.items() if isinstance(present, dict) else ():
        for key, value in values.items() if isinstance(values, dict) else ():
            known = base["data"].get(source, {})
            set_by_profile = key in over.get("data", {}).get(source, {})
            if key in PLACES and key in known and value != known[key] and not set_by_profile:
                kept.append(f"data.{source}.{key}={json.dumps(value)}")
    return kept


def overlaid(text: str, changes: dict[str, dict[str, Any]]) -> str:
    """The YAML text with values replaced, section by section, everything else as it was."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1000
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    content = yaml.load(text)
    _overlay(content, changes)
    output = io.StringIO()
    yaml.dump(content, output)
    return output.getvalue()


def _overlay(content: Any, changes: dict[str, dict[str, Any]]) -> None:
    """`lay_over` of sections, where another model has other keys, and defaults of its own."""
    model, other = content.get("model", {}), changes.get("model", {})
    if other.get("name", model.get("name")) != model.get("name"):
        model.clear()
    lay_over(content, changes)


def lay_over(content: Any, changes: dict[str, Any]) -> None:
    """Replaces values of `content` by those of `changes`, key by key at every depth; the rest stays."""
    for key, value in changes.items():
        old = content.get(key)
        if isinstance(value, dict) and isinstance(old, dict | None):
            lay_over(content.setdefault(key, {}), value)
        elif isinstance(old, list) and isinstance(value, list) and len(old) == len(value):
            old[:] = value  # keeps the line's style and its comment
        else:
            content[key] = value


def allowed() -> str:
    """Every key of params.yaml with the values that it takes, a line each; for `model`, the keys of every model."""
    schema = params.Params.model_json_schema()
    lines = []
    for section, reference in schema["properties"].items():
        lines.append(f"{section}:")
        lines += _models() if section == "model" else _keys(schema["$defs"][_name(reference)], "  ", schema["$defs"])
    return "\n".join(lines)


def _models() -> list[str]:
    lines = [f"  name: {' | '.join(catalogue.names())}"]
    for name in catalogue.names():
        schema = catalogue.find(name).section.model_json_schema()
        lines += [f"  with name {name}:", *_keys(schema, "    ", without=("name",))]
    return lines


def _keys(
    schema: dict[str, Any], indent: str, definitions: dict[str, Any] | None = None, without: Sequence[str] = ()
) -> list[str]:
    lines = []
    for key, rule in schema["properties"].items():
        if "$ref" in rule:
            below = (definitions or {})[_name(rule)]
            lines += [f"{indent}{key}:", *_keys(below, f"{indent}  ", definitions)]
        elif key not in without:
            default = f" (default {rule['default']})" if "default" in rule else ""
            lines.append(f"{indent}{key}: {_values(rule)}{default}")
    return lines


def _name(reference: dict[str, Any]) -> str:
    return reference["$ref"].rsplit("/", 1)[1]


_BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true | false", "null": "null"}


def _values(rule: dict[str, Any]) -> str:
    if "anyOf" in rule:
        return " | ".join(map(_values, rule["anyOf"]))
    if "enum" in rule:
        return " | ".join(map(str, rule["enum"]))
    if "const" in rule:
        return str(rule["const"])
    if rule["type"] == "array":
        least, most = rule.get("minItems", 0), rule["maxItems"]
        return f"list of {least if least == most else f'{least} to {most}'}, each {_values(rule['items'])}"
    limits = [text.format(rule[key]) for key, text in _BOUNDS.items() if key in rule]
    limits += [f"a multiple of {rule['multipleOf']}"] if "multipleOf" in rule else []
    limits += [f"like {rule['pattern']}"] if "pattern" in rule else []
    limits += ["not empty"] if "minLength" in rule else []
    return " ".join([_TYPES[rule["type"]], *([", ".join(limits)] if limits else [])])
