"""The software that a version needs, as a CycloneDX 1.6 document: its requirements and all that they require."""

import json
import re
import uuid
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

SPEC = "1.6"


@dataclass(frozen=True)
class Installed:
    """What is read of a package, once: some have metadata of a hundred kilobytes."""

    purl: str
    component: dict[str, Any]
    requires: list[str]


def sbom(name: str, content: str, requirements: list[str]) -> str:
    """JSON. name: of the model; content: its hash; requirements: `package==version`, as installed here.

    The same content with the same packages gives the same text.
    """
    from packaging.requirements import Requirement

    components: dict[str, dict[str, Any]] = {}
    needs: dict[str, list[str]] = {}
    direct = [Requirement(line) for line in requirements]
    todo = [(one.name, frozenset(one.extras)) for one in direct]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        one, extras = todo.pop()
        if (one, extras) in seen or not (found := _installed(one)):
            continue
        seen.add((one, extras))
        components.setdefault(found.purl, found.component)
        for line in found.requires:
            required = Requirement(line)
            if any(not required.marker or required.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                if other := _installed(required.name):
                    needs.setdefault(found.purl, []).append(other.purl)
                todo.append((required.name, frozenset(required.extras)))
    itself = f"model:{name}@{content}"
    roots = sorted(found.purl for one in direct if (found := _installed(one.name)))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, itself + ' '.join(sorted(components)))}",
        "version": 1,
        "metadata": {
            "component": {"type": "machine-learning-model", "bom-ref": itself, "name": name, "version": content[:12]}
        },
        "components": [components[purl] for purl in sorted(components)],
        "dependencies": [
            {"ref": itself, "dependsOn": roots},
            *({"ref": purl, "dependsOn": sorted(set(needs.get(purl, [])))} for purl in sorted(components)),
        ],
    }
    return json.dumps(document, indent=1) + "\n"


@cache
def _installed(name: str) -> Installed | None:
    """Licences as the package's own metadata state them: an SPDX expression, or words."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    said = found.metadata
    called, version = str(said["Name"]), str(said["Version"])
    purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', called).lower()}@{version.replace('+', '%2B')}"
    stated = said.get_all("License-Expression") or []
    words = [line.rpartition(" :: ")[2] for line in said.get_all("Classifier") or [] if "License ::" in line]
    licences = [{"expression": stated[0]}] if stated else [{"license": {"name": word}} for word in sorted(set(words))]
    own = {"licenses": licences} if licences else {}
    component = {"type": "library", "bom-ref": purl, "name": called, "version": version, "purl": purl, **own}
    return Installed(purl, component, found.requires or [])
