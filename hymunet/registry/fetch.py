"""A version's files, copied from where its artifacts are; nothing of them is run."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hymunet.registry import evidence
from hymunet.registry.seal import examined

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


@contextmanager
def fetched(
    client: "MlflowClient", version: "ModelVersion", whole: bool = False
) -> Iterator[tuple[evidence.Evidence, Path]]:
    """What the version says of itself, and a folder with the files that this was read from, for as long as it lasts.

    whole: all files are fetched and held against the manifest.

    Folders are listed before files are fetched, so that a store that does not answer is not taken for a gap.
    """
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
        folder, seal = Path(temporary), None
        if whole and listed[""]:
            folder = Path(mlflow.artifacts.download_artifacts(source, dst_path=temporary))
            seal = examined(folder, version.tags)
        for place in map(PurePosixPath, evidence.PARTS.values()):
            if not whole and holds(str(place.parent), place.name):
                target = folder / place.parent
                target.mkdir(parents=True, exist_ok=True)
                mlflow.artifacts.download_artifacts(f"{source}/{place}", dst_path=str(target))
        yield replace(evidence.read(str(version.version), version.tags, folder), seal=seal), folder


def text_of(client: "MlflowClient", version: "ModelVersion", name: str) -> str | None:
    """A text file at the top of the version, or None where there is none."""
    import mlflow

    source = client.get_model_version_download_uri(version.name, str(version.version))
    if name not in _names(source):
        return None
    with tempfile.TemporaryDirectory() as temporary:
        path = mlflow.artifacts.download_artifacts(f"{source}/{name}", dst_path=temporary)
        return Path(path).read_text(encoding="utf-8")


def _names(uri: str) -> set[str]:
    import mlflow

    try:
        return {PurePosixPath(item.path).name for item in mlflow.artifacts.list_artifacts(artifact_uri=uri)}
    except FileNotFoundError:
        return set()
