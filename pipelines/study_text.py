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
    """The study in a folder of its own; JSON is YAML."""
    content = json.loads(text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / definition.FILE).write_text(json.dumps(content["study"]), encoding="utf-8")
    (folder / BASE).write_text(json.dumps(content["base"]), encoding="utf-8")
    return load(folder, content["changes"])
