"""The software that a version needs, as a CycloneDX 1.6 document: its requirements and all that they require."""

import json
import re
import uuid
from importlib import metadata
from typing import Any

SPEC = "1.6"


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
        purl = _purl(found)
        components.setdefault(purl, _component(found, purl))
        for line in found.requires or []:
            required = Requirement(line)
            if any(not required.marker or required.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                if other := _installed(required.name):
                    needs.setdefault(purl, []).append(_purl(other))
                todo.append((required.name, frozenset(required.extras)))
    itself = f"model:{name}@{content}"
    roots = sorted(_purl(found) for one in direct if (found := _installed(one.name)))
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


def _installed(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _purl(found: metadata.Distribution) -> str:
    return f"pkg:pypi/{re.sub(r'[-_.]+', '-', found.metadata['Name']).lower()}@{found.version.replace('+', '%2B')}"


def _component(found: metadata.Distribution, purl: str) -> dict[str, Any]:
    """Licences as the package's own metadata state them: an SPDX expression, or words."""
    stated = found.metadata.get_all("License-Expression") or []
    words = [line.rpartition(" :: ")[2] for line in found.metadata.get_all("Classifier") or [] if "License ::" in line]
    licences = [{"expression": stated[0]}] if stated else [{"license": {"name": word}} for word in sorted(set(words))]
    own = {"licenses": licences} if licences else {}
    name, version = str(found.metadata["Name"]), found.version
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, **own}
