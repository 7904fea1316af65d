"""A study as one text: its definition, its base and where its images are, as a pipeline's parameter carries them."""

import json
from pathlib import Path

from hymunet import params
from hymunet.study import definition
from hymunet.study.plan import Plan, load

BASE = "base.yaml"
LAST = "tables"  # the part of a run that comes after its cells


def packed(path: Path, changes: list[str]) -> str:
    """ValueError for a study that is wrong anywhere. changes: `data.isic2018.mirror=s3://…`."""
    load(path, changes)
    file = definition.file_of(path)
    study = params.read_yaml(file)
    base = params.read_yaml(file.parent / study["base"])
    return json.dumps({"study": {**study, "base": BASE}, "base": base, "changes": changes})


def unpacked(text: str, folder: Path) -> Plan:
    """The study in a folder of its own; JSON is YAML. ValueError for a text that `packed` did not make."""
    try:
        content = json.loads(text)
        study, base, changes = content["study"], content["base"], content["changes"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"study = {text[:60]!r}: give what `compile --pipeline study` puts there") from None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / definition.FILE).write_text(json.dumps(study), encoding="utf-8")
    (folder / BASE).write_text(json.dumps(base), encoding="utf-8")
    return load(folder, changes)
