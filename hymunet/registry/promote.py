"""Which version is the champion: promotion by the same test images, and the way back.

The alias `champion` is the truth. The registered model's tag `hymunet.champions` lists the champions before it, the
latest last; it is written before the alias moves, so that a failure in between loses nothing.
"""

import csv
import json
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hymunet.registry.client import CHALLENGER, CHAMPION, REGISTER, registry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

HISTORY_TAG, REASON_TAG = "hymunet.champions", "hymunet.promotion"
TAKEN_BACK_TAG = "hymunet.taken_back"  # of a version: who was champion instead
REGARDLESS = "hymunet models promote --regardless"
HISTORY_LENGTH = 100
RESAMPLES, SEED = 10_000, 0


@dataclass(frozen=True)
class Decision:
    """promoted: whether the alias `champion` now names (or already named) the challenger. reason: with the figures."""

    promoted: bool
    version: str
    reason: str


def promote(name: str, regardless: bool = False) -> Decision:
    """Makes the challenger the champion if its mean Dice on the same test images is at least as high.

    regardless: without a comparison, and although it was taken back before.
    Raises ValueError when there is no challenger, it was taken back, or the two were not tested on the same images.
    """
    with registry() as client:
        challenger, champion = (_by_alias(client, name, alias) for alias in (CHALLENGER, CHAMPION))
        if challenger is None:
            raise ValueError(f"{name} has no challenger; register one: {REGISTER}")
        if regardless and (champion is None or champion.version != challenger.version):
            reason = f"{_described(challenger)} without a comparison, as was asked"
            decision = Decision(True, str(challenger.version), reason)
        elif better := challenger.tags.get(TAKEN_BACK_TAG):
            raise ValueError(
                f"{name} version {challenger.version} was champion and was taken back for version {better}; register "
                f"another, or promote it all the same: {REGARDLESS}"
            )
        elif champion is None:
            decision = Decision(True, str(challenger.version), f"{_described(challenger)} is the first champion")
        elif champion.version == challenger.version:
            return Decision(True, str(champion.version), f"{_described(champion)} is the champion already")
        else:
            decision = compare(client, challenger, champion)
        if decision.promoted:
            before = _history(client, name) + ([str(champion.version)] if champion else [])
            client.set_registered_model_tag(name, HISTORY_TAG, json.dumps(before[-HISTORY_LENGTH:]))
            client.set_model_version_tag(name, decision.version, REASON_TAG, decision.reason)
            if TAKEN_BACK_TAG in challenger.tags:
                client.delete_model_version_tag(name, decision.version, TAKEN_BACK_TAG)
            client.set_registered_model_alias(name, CHAMPION, decision.version)
        return decision


def rollback(name: str) -> tuple[str, str]:
    """Gives the alias back to the champion before; returns the version that lost it and the one that has it now.

    Champions that were deleted since are passed over; where the alias itself, or the version that held it, was deleted,
    the first of the two is "none". The version that lost it is not promoted again unless that is asked for.
    """
    with registry() as client:
        champion = _by_alias(client, name, CHAMPION)
        current = str(champion.version) if champion else "none"
        there = {str(version.version) for version in client.search_model_versions(f"name = '{name}'")}
        before = [version for version in _history(client, name) if version in there]
        while before and before[-1] == current:  # left by a promotion that failed half-way
            before.pop()
        if not before and champion is None:
            raise ValueError(f"{name} has no champion to take back, and none before it is left; {_promote_one(there)}")
        if not before:
            raise ValueError(
                f"{name} version {current} is the first champion that is left; there is none to go back to"
            )
        if champion:
            client.set_model_version_tag(name, current, TAKEN_BACK_TAG, before[-1])
        client.set_registered_model_alias(name, CHAMPION, before[-1])
        client.set_registered_model_tag(name, HISTORY_TAG, json.dumps(before[:-1]))
        return current, before[-1]


def _promote_one(there: set[str]) -> str:
    return "promote the challenger: hymunet models promote" if there else f"register a model: {REGISTER}"


def versions(name: str) -> list[dict[str, Any]]:
    """Every version, the newest first: version, aliases, Dice with its interval, when it was registered."""
    with registry() as client:
        _require(client, name)
        aliases = client.get_registered_model(name).aliases
        found = sorted(client.search_model_versions(f"name = '{name}'"), key=lambda v: -int(v.version))
        return [
            {
                "version": str(version.version),
                "aliases": sorted(alias for alias, holder in aliases.items() if str(holder) == str(version.version)),
                **{key: version.tags.get(f"test.dice{suffix}", "") for key, suffix in _DICE},
                "created": version.creation_timestamp,
            }
            for version in found
        ]


_DICE = (("dice", ""), ("low", ".low"), ("high", ".high"))


def compare(client: "MlflowClient", challenger: "ModelVersion", champion: "ModelVersion") -> Decision:
    """Per-image Dice of both, paired by image; ValueError unless the images are the same files."""
    import numpy as np

    from hymunet.evaluation.statistics import paired_difference

    key = "hymunet.test_images_sha256"
    if challenger.tags.get(key) != champion.tags.get(key) or key not in champion.tags:
        raise ValueError(
            f"{challenger.name}: versions {challenger.version} and {champion.version} were not tested on the same "
            f"images, so that their scores do not compare; to change over without a comparison: {REGARDLESS}"
        )
    ours, theirs = _dice(client, challenger), _dice(client, champion)
    if ours.keys() != theirs.keys():
        raise ValueError(f"{challenger.name}: per_image.csv of the two versions lists different images")
    values = [np.array([scores[id] for id in sorted(scores)]) for scores in (ours, theirs)]
    difference = paired_difference(values[0], values[1], RESAMPLES, SEED)
    better = difference["mean"] >= 0
    reason = (
        f"{_described(challenger)} against {_described(champion)}: difference {difference['mean']:+.4f} "
        f"(95 % CI {difference['low']:+.4f} to {difference['high']:+.4f}) over the same {len(ours)} test images, "
        f"{'at least as good' if better else 'not as good'}"
    )
    return Decision(better, str(challenger.version), reason)


def _dice(client: "MlflowClient", version: "ModelVersion") -> dict[str, float]:
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        source = client.get_model_version_download_uri(version.name, version.version)
        path = mlflow.artifacts.download_artifacts(f"{source}/evaluation/per_image.csv", dst_path=folder)
        with open(path, newline="", encoding="utf-8") as file:
            return {row["id"]: float(row["dice"]) for row in csv.DictReader(file)}


def _by_alias(client: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    _require(client, name)
    version = client.get_registered_model(name).aliases.get(alias)
    there = {str(found.version) for found in client.search_model_versions(f"name = '{name}'")}
    return client.get_model_version(name, version) if str(version) in there else None


def _require(client: "MlflowClient", name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        raise ValueError(f"no model named {name} in the registry; register one ({REGISTER}), or name another: --name")


def _history(client: "MlflowClient", name: str) -> list[str]:
    return json.loads(client.get_registered_model(name).tags.get(HISTORY_TAG, "[]"))


def _described(version: "ModelVersion") -> str:
    return f"version {version.version} (Dice {float(version.tags.get('test.dice', 'nan')):.4f})"
