"""A trained and tested model becomes a version in the registry, once for the same content, as the `challenger`."""

import hashlib
import json
import secrets
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hymunet import atomic, evidence, metrics
from hymunet.commit import git_commit
from hymunet.evaluation.record import EMPTY
from hymunet.mlflow_store.address import RUN_KEY_TAG
from hymunet.mlflow_store.experiment import experiment_id
from hymunet.registry import contract, grounds, logged, package, seal
from hymunet.registry.card import card
from hymunet.registry.client import CHALLENGER, public_uri, registry
from hymunet.registry.ledger import CONTENT
from hymunet.registry.lock import lock_hash
from hymunet.registry.sbom import sbom
from hymunet.registry.spent import spent

if TYPE_CHECKING:
    from mlflow import MlflowClient

CARD, SBOM = "card.md", "sbom.json"
DESCRIBED = 5000  # characters that MLflow's tables have for a description


@dataclass(frozen=True)
class Registration:
    """registration.json. uri: for `mlflow.pyfunc.load_model`; registry: where that version exists."""

    name: str
    version: int
    uri: str
    content: str
    metrics_sha256: str
    registry: str


@dataclass(frozen=True)
class Registered:
    """statement: what registration.json says. challenger: the version that is it now."""

    statement: Registration
    challenger: int


@dataclass(frozen=True)
class Candidate:
    """What is to be registered: folders and the records in them. grounds: as `grounds.collect` gives them."""

    model: Path
    evaluation: Path
    info: dict[str, Any]
    metrics: dict[str, Any]
    split: dict[str, Any]
    grounds: dict[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the model, as in params.yaml."""
        return self.info["model"]["name"]

    @cached_property
    def content(self) -> str:
        """SHA-256 over weights, their description, the evaluation, what it rests on, and the code that serves them.

        A version that carries no promise is other content.
        """
        digest = hashlib.sha256(f"{package.code_sha256(self.name)} {contract.PROMISE}".encode())
        for path in (self.model / "model.safetensors", self.model / "model.json", self.evaluation / "metrics.json"):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        for name in sorted(self.grounds):
            digest.update(hashlib.sha256(self.grounds[name]).digest())
        return digest.hexdigest()


def register(
    name: str,
    model: Path,
    evaluation: Path,
    split: Path,
    output: Path,
    root: Path = Path(),
    rests_on: dict[str, bytes] | None = None,
) -> Registered:
    """Registers the model of `model` with the scores of `evaluation`, or finds the version that already holds them.

    What is registered anew, or stated anew, becomes the challenger. Where the registry still holds what
    `output`/registration.json states, nothing changes: a challenger that came later stays.
    split: split.json. root: the project, for git's commit and dvc.lock. rests_on: of `grounds.collect`; a version
    without it is one that promotion refuses. Writes `output`/registration.json.
    Raises ValueError when an input is missing or does not belong to the others, or MLflow does not answer.
    """
    remedy = "run the steps before this one first"
    records = (model / "model.json", evaluation / "metrics.json", split)
    info, scores, divided = (evidence.read(path, remedy) for path in records)
    candidate = Candidate(model, evaluation, info, scores, divided, rests_on or {})
    belong_together(candidate, split)
    tested, content = evidence.sha256(evaluation / "metrics.json"), candidate.content
    with registry() as client:
        version = int(_find(client, name, content) or _create(client, name, candidate, root))
        done = Registration(name, version, f"models:/{name}/{version}", content, tested, public_uri())
        challenger = client.get_registered_model(name).aliases.get(CHALLENGER)
        if challenger is not None and _stated(output) == asdict(done):
            return Registered(done, int(challenger))
        client.set_registered_model_alias(name, CHALLENGER, str(version))
    atomic.write(output / "registration.json", json.dumps(asdict(done), indent=2) + "\n")
    return Registered(done, version)


def _stated(output: Path) -> dict[str, Any] | None:
    try:
        return json.loads((output / "registration.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def belong_together(candidate: Candidate, split: Path) -> None:
    """Raises ValueError unless evaluation, model and split are of one making, and the files are those recorded."""
    info, tested = candidate.info, candidate.metrics
    description, record = candidate.model / "model.json", candidate.evaluation / "metrics.json"
    weights, table = candidate.model / "model.safetensors", candidate.evaluation / "per_image.csv"
    again = "run evaluate again"
    evidence.require(description, info, "weights_sha256", weights, evidence.sha256(weights), "train again")
    evidence.require(record, tested, "weights_sha256", candidate.model, info["weights_sha256"], again)
    if (part := tested.get("part", "test")) != "test":
        raise ValueError(f"{record}: scores of {part} images, on which the model was chosen, are no test; {again}")
    evidence.require(record, tested, "data_sha256", candidate.model, info["data_sha256"], again)
    evidence.require(record, tested, "split_sha256", candidate.model, info["split_sha256"], again)
    evidence.require(record, tested, "per_image_sha256", table, evidence.sha256(table), again)
    for score in metrics.SCORES:
        for key in ("mean", "low", "high"):
            evidence.field(tested, record, again, "test", score, key)
    evidence.require(
        description, info, "split_sha256", split, candidate.split["sha256"], "run train and evaluate again"
    )


def tags(candidate: Candidate, root: Path) -> dict[str, str]:
    """What a version says about itself, for people and for promotion."""
    test = candidate.metrics["test"]
    scores = {
        f"test.{score}{suffix}": f"{test[score][key]:.6f}"
        for score in metrics.SCORES
        for key, suffix in (("mean", ""), ("low", ".low"), ("high", ".high"))
    }
    return {
        CONTENT: candidate.content,
        RUN_KEY_TAG: candidate.info["run_key"],
        "hymunet.test_images_sha256": candidate.metrics["test_images_sha256"],
        "hymunet.weights_sha256": candidate.info["weights_sha256"],
        "hymunet.serving_code_sha256": package.code_sha256(candidate.name),
        "hymunet.image_size": str(candidate.info["image_size"]),
        **_origin(candidate, root),
        **scores,
        "test.images": str(test["images"]),
        "test.missed": str(test["missed"]),
        **{f"test.{name}": str(test[name]) for name in EMPTY if test.get("without_lesion")},
    }


def _origin(candidate: Candidate, root: Path) -> dict[str, str]:
    return {
        "hymunet.data_sha256": candidate.info["data_sha256"],
        "hymunet.split_sha256": candidate.info["split_sha256"],
        "hymunet.git_commit": git_commit(root) or "unknown",
        "hymunet.dvc_lock_sha256": lock_hash(root / "dvc.lock", candidate.model),
    }


def _find(client: "MlflowClient", name: str, content: str) -> str | None:
    found = client.search_model_versions(f"name = '{name}' and tags.`{CONTENT}` = '{content}'")
    return str(min(int(version.version) for version in found)) if found else None


def _create(client: "MlflowClient", name: str, candidate: Candidate, root: Path) -> str:
    """Artifacts first, the version with all its tags last: whatever fails before leaves no version.

    They lie in a folder of this registration's own: versions of other models, copies too, may be of the same training
    and content, and keep the files that they were registered with.
    """
    key = seal.signing_key()
    run_id = _run(client, candidate.info["run_key"])
    kind = f"model-{candidate.content[:12]}"
    folder = f"{kind}-{secrets.token_hex(4)}"
    origin, cost = _origin(candidate, root), spent(client, run_id)
    text = card(name, candidate.info, candidate.metrics, candidate.split, origin, cost)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / folder
        save(candidate, path)
        (path / CARD).write_text(text, encoding="utf-8")
        _kept(candidate, path)
        needed = [line for line in (path / "requirements.txt").read_text(encoding="utf-8").splitlines() if "==" in line]
        (path / SBOM).write_text(sbom(name, candidate.content, needed), encoding="utf-8")
        for file, content in candidate.grounds.items():
            (path / grounds.FOLDER).mkdir(exist_ok=True)
            (path / grounds.FOLDER / file).write_bytes(content)
        shutil.copytree(candidate.evaluation, path / "evaluation")
        manifest = seal.manifest(path)
        (path / seal.MANIFEST).write_bytes(manifest)
        client.log_artifacts(run_id, str(path), folder)
    model_id = logged.log(client, run_id, kind, candidate.content, candidate.metrics)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description="Segmentation of medical images. For research use only.")
    source = f"{client.get_run(run_id).info.artifact_uri}/{folder}"
    own = tags(candidate, root) | {seal.MANIFEST_TAG: hashlib.sha256(manifest).hexdigest()}
    own |= {seal.SIGNATURE_TAG: seal.signature(manifest, key)} if key else {}
    own |= {logged.MODEL_TAG: model_id} if model_id else {}
    created = client.create_model_version(name, source, run_id, tags=own, description=_short(text))
    return str(created.version)


def _kept(candidate: Candidate, folder: Path) -> None:
    """The version in `folder` is given its promise and run. ValueError where it makes other masks than the model."""
    from hymunet.inference import Segmenter

    segmenter = Segmenter.as_tested(candidate.model, candidate.evaluation, "cpu")
    contract.write(segmenter, folder)
    if problems := contract.broken(folder, tolerance=0):
        raise ValueError(f"{candidate.model}: not registered; loaded as a version, {'; '.join(problems[:3])}")


def _short(text: str) -> str:
    return (
        text if len(text) <= DESCRIBED else text[: DESCRIBED - 60].rpartition("\n")[0] + f"\n\nThe rest is in {CARD}.\n"
    )


def _run(client: "MlflowClient", run_key: str) -> str:
    """The training's run, wherever it is; where the training was not tracked, a run that says which it was."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.`{RUN_KEY_TAG}` = '{run_key}'", order_by=["start_time ASC"])
    if found:
        return found[0].info.run_id
    run = client.create_run(experiment_id(client), tags={RUN_KEY_TAG: run_key}, run_name=f"train-{run_key[:8]}")
    client.set_terminated(run.info.run_id)
    return run.info.run_id


def save(candidate: Candidate, path: Path) -> None:
    """The model in MLflow's format: our weights, our code, a signature and an example."""
    import mlflow
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from hymunet.data.acquire.synthetic import draw
    from hymunet.inference import DECIDES

    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(object), (-1,), "image")]),  # whatever `sent.pixels` takes
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
    )
    with tempfile.TemporaryDirectory() as temporary:
        code = package.copy_code(candidate.name, Path(temporary) / "code")
        weights = Path(temporary) / "model"  # MLflow keeps the folder's name
        weights.mkdir()
        for name in ("model.safetensors", "model.json"):
            shutil.copyfile(candidate.model / name, weights / name)
        mlflow.pyfunc.save_model(
            path,
            python_model=str(package.ROOT / package.SERVE),
            artifacts={"model": str(weights)},
            code_paths=[str(code)],
            model_config={key: candidate.metrics[key] for key in DECIDES if key in candidate.metrics},
            signature=signature,
            input_example=draw(0, 64, 0)[0][None],
            pip_requirements=package.requirements(code, weights, candidate.name),
        )
