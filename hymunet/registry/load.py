"""A segmenter from where its model is: a folder, or a version of the registry, of which no code is fetched or run."""

import math
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hymunet import bundled, evidence
from hymunet.evaluation import familiar
from hymunet.evidence import METRICS
from hymunet.registry.client import registry
from hymunet.registry.seal import MANIFEST, MANIFEST_TAG, require_as_registered

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from hymunet.inference import Segmenter

EVALUATION = Path("reports/evaluation")
DESCRIPTION = "model.json"
EVALUATE = "evaluate the model, or name its evaluation's folder"
ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


def open_segmenter(where: str, evaluation: Path | None = None, device: str | None = None) -> tuple["Segmenter", str]:
    """The segmenter, and in words by whose authority it decides.

    where: a trained model's folder, `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `bundled`. evaluation: a folder
    whose threshold, flips and regions count; it must be of this model. Without one, a version decides as it was tested;
    a folder as the evaluation in reports/evaluation did, where that is of this model, else as it was trained.
    Raises ValueError when something is missing, damaged, or of another model.
    """
    require_there(where, evaluation)
    if where.startswith("models:"):
        with tempfile.TemporaryDirectory() as folder:
            model, own = fetch(where, Path(folder))
            return _as_tested(model, evaluation or own, device), f"as {where} was tested"
    folder_of_model = _folder(where)
    if evaluation is None and _is_of(folder_of_model, EVALUATION):
        evaluation = EVALUATION
    if evaluation is not None:
        return _as_tested(folder_of_model, evaluation, device), f"as tested in {evaluation}"
    from hymunet.inference import Segmenter

    decides = bundled.AS_PACKED if where == bundled.NAME else "as trained; no evaluation of this model was named"
    return Segmenter.load(folder_of_model, device=device), decides


def require_there(where: str, evaluation: Path | None = None) -> None:
    """Raises ValueError, before torch or MLflow is imported, for what no model can be opened by: a folder without one,
    an evaluation that is none, an address of another form."""
    if where.startswith("models:"):
        _parts(where)
    else:
        folder = _folder(where)
        if folder.is_file():
            raise ValueError(f"{where}: is a file; a trained model is a folder, with model.json in it")
        _require_decides(folder / DESCRIPTION, "train a model first, or name its folder")
    if evaluation is not None:
        _require_decides(evaluation / METRICS, EVALUATE)


def _folder(where: str) -> Path:
    return bundled.folder() if where == bundled.NAME else Path(where)


def _parts(address: str) -> re.Match[str]:
    found = ADDRESS.fullmatch(address)
    if not found:
        raise ValueError(f"{address}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
    return found


def fetch(address: str, target: Path) -> tuple[Path, Path]:
    """Downloads a version's weights, their description and the evaluation's record; no code of it is fetched or run.

    Raises ValueError for files that its manifest, where it has one, does not know as they are.
    """
    found = _parts(address)
    with registry(make=False) as client:
        import mlflow

        version = resolve(client, found)
        source = client.get_model_version_download_uri(version.name, version.version)
        wanted = {"model": "artifacts/model", "evaluation": "evaluation/metrics.json"}
        for part, path in wanted.items():
            (target / part).mkdir(parents=True, exist_ok=True)
            mlflow.artifacts.download_artifacts(f"{source}/{path}", dst_path=str(target / part))
        if MANIFEST_TAG in version.tags:
            manifest = mlflow.artifacts.download_artifacts(f"{source}/{MANIFEST}", dst_path=str(target))
            files = {f"artifacts/model/{path.name}": path for path in (target / "model/model").iterdir()}
            files["evaluation/metrics.json"] = target / "evaluation/metrics.json"
            require_as_registered(address, Path(manifest).read_bytes(), version.tags, files)
    return target / "model/model", target / "evaluation"


def resolve(client: "MlflowClient", found: re.Match[str]) -> "ModelVersion":
    if found["alias"]:
        return client.get_model_version_by_alias(found["name"], found["alias"])
    return client.get_model_version(found["name"], found["version"])


def _as_tested(model: Path, evaluation: Path, device: str | None) -> "Segmenter":
    """With what the evaluation says of the training images in its info."""
    from hymunet.inference import Segmenter

    _require_decides(evaluation / METRICS, EVALUATE)
    segmenter = Segmenter.as_tested(model, evaluation, device)
    known = evidence.read(evaluation / METRICS, "evaluate the model").get(familiar.KEY)
    return replace(segmenter, info={**segmenter.info, familiar.KEY: known}) if known else segmenter


def _require_decides(path: Path, remedy: str) -> None:
    """Raises ValueError, naming file and value, for a record by which no mask could be cut, or only an empty one."""
    record = evidence.read(path, remedy)
    threshold = evidence.field(record, path, remedy, "threshold")
    temperature, flips = record.get("temperature", 1.0), record.get("flips", False)
    largest_region = record.get("largest_region", False)
    for name, value, sound, expected in (
        ("threshold", threshold, _number(threshold) and 0 <= threshold <= 1, "a number from 0 to 1"),
        ("temperature", temperature, _number(temperature) and 0 < temperature < math.inf, "a number above 0"),
        ("flips", flips, isinstance(flips, bool), "true or false"),
        ("largest_region", largest_region, isinstance(largest_region, bool), "true or false"),
    ):
        if not sound:
            raise ValueError(f"{path}: {name} = {value!r}: expected {expected}; {remedy}")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_of(model: Path, evaluation: Path) -> bool:
    try:
        records = [evidence.read(path, "") for path in (model / "model.json", evaluation / "metrics.json")]
    except ValueError:
        return False
    return records[0].get("weights_sha256") == records[1].get("weights_sha256")
