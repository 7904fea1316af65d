"""A version's files, copied from where its artifacts are; nothing of them is run."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hymunet.registry import evidence
from hymunet.registry.seal import MANIFEST, MANIFEST_TAG, changed_since, examined

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
        changed = seal.problems or () if seal else ()
        if not whole and MANIFEST_TAG in version.tags and listed[""]:
            changed = _changed(source, version.tags, folder) if holds("", MANIFEST) else (f"{MANIFEST} is not there",)
        read = evidence.read(str(version.version), version.tags, folder)
        yield replace(read, seal=seal, changed=changed), folder


def _changed(source: str, tags: Mapping[str, str], folder: Path) -> tuple[str, ...]:
    """Which of the files that were fetched are not those that were registered."""
    import mlflow

    with tempfile.TemporaryDirectory() as temporary:
        content = Path(mlflow.artifacts.download_artifacts(f"{source}/{MANIFEST}", dst_path=temporary)).read_bytes()
    files = {place: folder / place for place in evidence.PARTS.values() if (folder / place).is_file()}
    return tuple(f"{name} was changed" for name in changed_since(content, tags, files))


def text_of(client: "MlflowClient", version: "ModelVersion", name: str) -> str | None:
    """A text file at the top of the version, or None where there is none."""
    import mlflow

    source = client.get_model_version_download_uri(version.name, str(version.version))
    if name not in _names(source):
        return None
    with tempfile.TemporaryDirectory() as temporary:
        path = mlflow.artifacts.download_artifacts(f"{source}/{name}", dst_path=temporary)
        try:
            return Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            where = f"{version.name} version {version.version}: {name}"
            raise ValueError(
                f"{where} is no UTF-8 text ({error.reason} at byte {error.start}); it was changed"
            ) from None


def _names(uri: str) -> set[str]:
    import mlflow

    try:
        return {PurePosixPath(item.path).name for item in mlflow.artifacts.list_artifacts(artifact_uri=uri)}
    except FileNotFoundError:
        return set()
