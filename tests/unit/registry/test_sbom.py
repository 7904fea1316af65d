"""The list of software: CycloneDX, complete for what is required, the same for the same."""

import json
from importlib import metadata

from hymunet.registry.sbom import sbom

NEEDED = [f"{name}=={metadata.version(name).partition('+')[0]}" for name in ("mlflow", "numpy")]


def test_it_names_what_is_required_and_what_that_requires():
    text = sbom("hymunet", "a" * 64, NEEDED)
    assert text == sbom("hymunet", "a" * 64, NEEDED)
    assert text != sbom("hymunet", "b" * 64, NEEDED)
    document = json.loads(text)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    libraries = {component["name"].lower(): component for component in document["components"]}
    assert {"mlflow", "numpy", "sqlalchemy", "markupsafe"} <= libraries.keys(), "MarkupSafe by way of Flask and Jinja2"
    for name, component in libraries.items():
        assert component["version"] == metadata.version(name)
    assert libraries["numpy"]["licenses"]
    refs = [component["bom-ref"] for component in document["components"]]
    assert len(set(refs)) == len(refs)
    graph = {entry["ref"]: entry["dependsOn"] for entry in document["dependencies"]}
    itself = document["metadata"]["component"]["bom-ref"]
    assert graph.keys() == {itself, *refs}
    assert set(graph[itself]) == {libraries["mlflow"]["purl"], libraries["numpy"]["purl"]}
    assert libraries["sqlalchemy"]["purl"] in graph[libraries["mlflow"]["purl"]]
    assert {ref for below in graph.values() for ref in below} <= set(refs), "nothing is referred to that is not listed"
    assert "pytest" not in libraries, "what is installed and not required is not listed"
