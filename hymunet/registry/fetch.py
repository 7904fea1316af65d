"""A version's evidence from where its artifacts are: records and weights, of which nothing is run."""

import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hymunet.registry import evidence

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def evidence_of(client: "MlflowClient", version: "ModelVersion") -> evidence.Evidence:
    """Folders are listed before files are fetched, so that a store that does not answer is not taken for a gap."""
    import mlflow

    source = client.get_model_version_download_uri(version.name, str(version.version))
    listed: dict[str, set[str]] = {"": set()}

    def holds(folder: str, name: str) -> bool:
        if folder not in listed:
            parent = PurePosixPath(folder)
            above = "" if str(parent.parent) == "." else str(parent.parent)
            there = holds(above, parent.name)
            listed[folder] = _names(f"{source}/{folder}") if there else set()
        return name in listed[folder]

    listed[""] = _names(source)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for place in map(PurePosixPath, evidence.PARTS.values()):
            if holds(str(place.parent), place.name):
                target = folder / place.parent
                target.mkdir(parents=True, exist_ok=True)
                mlflow.artifacts.download_artifacts(f"{source}/{place}", dst_path=str(target))
        return evidence.read(str(version.version), version.tags, folder)


def _names(uri: str) -> set[str]:
    import mlflow

    try:
        return {PurePosixPath(item.path).name for item in mlflow.artifacts.list_artifacts(artifact_uri=uri)}
    except FileNotFoundError:
        return set()
