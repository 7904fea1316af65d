"""A registered model with its ledger: versions, aliases, who is champion."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hymunet.registry.client import CHALLENGER, CHAMPION, REGISTER, public_uri, registry
from hymunet.registry.ledger import Ledger, State

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

OLD_HISTORY_TAG, OLD_TAKEN_BACK_TAG = "hymunet.champions", "hymunet.taken_back"  # of registries without a ledger
_SHOWN = 10  # versions in a message


class Model:
    """A registered model with its ledger, opened."""

    def __init__(self, client: "MlflowClient", name: str) -> None:
        if not client.search_registered_models(f"name = '{name}'"):
            raise ValueError(
                f"no model named {name} in the registry at {public_uri()}; register one ({REGISTER}), name another "
                "(--name), or the registry where it is (MLFLOW_TRACKING_URI)"
            )
        self.client, self.name = client, name
        self.ledger = Ledger(client, name, self._without_a_ledger)

    def versions(self) -> dict[str, "ModelVersion"]:
        """Number -> version, the newest first."""
        found = self.client.search_model_versions(f"name = '{self.name}'")
        return {str(version.version): version for version in sorted(found, key=lambda one: -int(one.version))}

    def exists(self, version: str) -> bool:
        return version in self.versions()

    def aliases(self) -> dict[str, str]:
        return {alias: str(holder) for alias, holder in self.client.get_registered_model(self.name).aliases.items()}

    def in_order(self) -> State:
        """The state, once the alias names the ledger's champion. ValueError where somebody moved it by hand."""
        state, alias = self.ledger.state(), self.ledger.alias()
        if by_hand(state, alias):
            raise ValueError(
                f"{self.name}: the alias {CHAMPION} names version {alias}, which no entry of the ledger made champion; "
                f"it was moved by hand. Set it back with hymunet models verify --name {self.name}"
            )
        return self.ledger.settle(self.exists)

    def _without_a_ledger(self) -> State:
        """From the alias and the tags that earlier versions of this program wrote."""
        registered = self.client.get_registered_model(self.name)
        before = [str(version) for version in json.loads(registered.tags.get(OLD_HISTORY_TAG, "[]"))]
        alias, versions = registered.aliases.get(CHAMPION), self.versions()
        if alias is not None and str(alias) in versions:
            while before and before[-1] == str(alias):
                before.pop()
            before.append(str(alias))
        taken_back = {
            number: version.tags[OLD_TAKEN_BACK_TAG]
            for number, version in versions.items()
            if OLD_TAKEN_BACK_TAG in version.tags
        }
        return State(0, tuple(before), taken_back)


@contextmanager
def opened(name: str) -> Iterator[Model]:
    with registry(make=False) as client:
        yield Model(client, name)


def by_hand(state: State, alias: str | None) -> bool:
    return state.head > 0 and alias is not None and alias not in {*state.champions, *state.taken_back}


def last_left(state: State, versions: dict[str, Any]) -> str | None:
    """The champion, or the last one before it that was not deleted since."""
    return next((version for version in reversed(state.champions) if version in versions), None)


def challenger_of(model: Model, versions: dict[str, "ModelVersion"], version: str | None) -> str:
    """The number that was named, or the challenger's. ValueError where there is none."""
    return _chosen(model, versions, version, CHALLENGER)


def champion_of(model: Model, versions: dict[str, "ModelVersion"], version: str | None) -> str:
    """The number that was named, or the champion's. ValueError where there is none."""
    return _chosen(model, versions, version, CHAMPION)


def _chosen(model: Model, versions: dict[str, "ModelVersion"], version: str | None, alias: str) -> str:
    found = version or model.aliases().get(alias, "")
    if found in versions:
        return found
    numbers = ", ".join(list(versions)[:_SHOWN]) + " …" * (len(versions) > _SHOWN)
    remedy = f"name one of its versions: {numbers}" if versions else f"register one: {REGISTER}"
    if not version and alias == CHALLENGER:
        remedy = f"register one: {REGISTER}" + f"; or {remedy}" * bool(versions)
    raise ValueError(f"{model.name} has no {f'version {version}' if version else alias}; {remedy}")
