"""Which version is the champion: promotion through the gates, and the way back. The ledger is the truth."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hymunet import params
from hymunet.registry import gates
from hymunet.registry.client import CHALLENGER, CHAMPION, REGISTER, registry
from hymunet.registry.fetch import evidence_of
from hymunet.registry.gates import Gate
from hymunet.registry.ledger import Entry, Ledger, State

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

REASON_TAG = "hymunet.promotion"  # of a version: why it was promoted, for who looks at MLflow's pages
OLD_HISTORY_TAG, OLD_TAKEN_BACK_TAG = "hymunet.champions", "hymunet.taken_back"  # of registries without a ledger
REGARDLESS = "hymunet models promote --regardless --reason WHY"


@dataclass(frozen=True)
class Decision:
    """kind: promote, override, refuse, or none where the challenger is the champion already. entry: in the ledger.

    against: the champion it was compared with, or empty. gates: each with figure and threshold.
    """

    model: str
    kind: str
    version: str
    against: str
    reason: str
    gates: tuple[Gate, ...] = ()
    difference: dict[str, float] | None = None
    decided_before: int = 0
    entry: int | None = None

    @property
    def promoted(self) -> bool:
        """Whether the alias `champion` names the challenger now (or, of a rehearsal, would)."""
        return self.kind != "refuse"


class Model:
    """A registered model with its ledger, opened."""

    def __init__(self, client: "MlflowClient", name: str) -> None:
        if not client.search_registered_models(f"name = '{name}'"):
            raise ValueError(
                f"no model named {name} in the registry; register one ({REGISTER}), or name another: --name"
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
    with registry() as client:
        yield Model(client, name)


def by_hand(state: State, alias: str | None) -> bool:
    return state.head > 0 and alias is not None and alias not in {*state.champions, *state.taken_back}


def last_left(state: State, versions: dict[str, Any]) -> str | None:
    """The champion, or the last one before it that was not deleted since."""
    return next((version for version in reversed(state.champions) if version in versions), None)


def promote(
    name: str,
    policy: params.Promote,
    version: str | None = None,
    regardless: str | None = None,
    dry_run: bool = False,
) -> Decision:
    """Makes a version, by default the challenger, the champion if it passes every gate; the decision is in the ledger.

    regardless: why it is to be champion whatever the gates say; kept with what they said. dry_run: only says.
    Raises ValueError when there is no such version, it was taken back, or another one promoted meanwhile.
    """
    with opened(name) as model:
        versions = model.versions()
        challenger = version or model.aliases().get(CHALLENGER, "")
        if challenger not in versions:
            named = f"version {version}" if version else "challenger"
            raise ValueError(f"{name} has no {named}; register one: {REGISTER}")
        state = model.ledger.state() if dry_run else model.in_order()
        if state.champion == challenger:
            return Decision(name, "none", challenger, challenger, f"version {challenger} is the champion already")
        better = state.taken_back.get(challenger)
        if better and regardless is None:
            raise ValueError(
                f"{name} version {challenger} was champion and was taken back for version {better}; register another, "
                f"or promote it all the same: {REGARDLESS}"
            )
        champion = last_left(state, versions)
        decision = _judged(model, versions, challenger, champion, policy, regardless)
        return decision if dry_run else _carried_out(model, state, versions[challenger], decision)


def compare(name: str, policy: params.Promote, version: str | None = None, other: str | None = None) -> Decision:
    """What promotion would say of a version against another one, by default the challenger against the champion."""
    with opened(name) as model:
        versions = model.versions()
        challenger = version or model.aliases().get(CHALLENGER, "")
        champion = other or last_left(model.ledger.state(), versions)
        for found in (challenger, *([champion] if champion else [])):
            if found not in versions:
                raise ValueError(
                    f"{name} has no {f'version {found}' if found else 'challenger'}; see: hymunet models list"
                )
        return _judged(model, versions, challenger, champion, policy, None)


def rollback(name: str, to: str | None = None, reason: str = "", dry_run: bool = False) -> tuple[str, str]:
    """Makes an earlier champion, by default the last before, champion again; returns who lost it and who has it now.

    Champions that were deleted since are passed over; where the present one was deleted, the first is "none". The
    version that lost it is not promoted again unless that is asked for. ValueError where there is none to go back to.
    """
    with opened(name) as model:
        versions = model.versions()
        state = model.ledger.state() if dry_run else model.in_order()
        present = state.champion if state.champion in versions else None
        if state.head == 0 and CHAMPION not in model.aliases():
            present = None
        before = [one for one in state.champions if one in versions and one != present]
        target = to or (before[-1] if before else None)
        if target is None and present is None:
            advice = "promote the challenger: hymunet models promote" if versions else f"register a model: {REGISTER}"
            raise ValueError(f"{name} has no champion to take back, and none before it is left; {advice}")
        if target is None:
            raise ValueError(
                f"{name} version {present} is the first champion that is left; there is none to go back to"
            )
        if target not in before:
            raise ValueError(
                f"{name} version {target} was no champion before; those left: {', '.join(before) or 'none'}"
            )
        if not dry_run:
            model.ledger.append("rollback", target, state, reason=reason)
            model.ledger.settle(model.exists)
        return present or "none", target


def decided_before(entries: list[Entry], images: str, challenger: str, champion: str) -> int:
    """How many other pairs of versions these test images have decided on."""
    pairs = {(entry.version, entry.against) for entry in entries if entry.images and entry.images == images}
    return len(pairs - {(challenger, champion)})


def _judged(
    model: Model,
    versions: dict[str, "ModelVersion"],
    challenger: str,
    champion: str | None,
    policy: params.Promote,
    regardless: str | None,
) -> Decision:
    ours = evidence_of(model.client, versions[challenger])
    theirs = evidence_of(model.client, versions[champion]) if champion else None
    decided = decided_before(model.ledger.entries(), images_of(versions[challenger]), challenger, champion or "")
    verdict = gates.judge(ours, theirs, policy, decided)
    failed = "; ".join(f"{gate.name} {gate.figure}, {gate.threshold}" for gate in verdict.failed)
    against = f"version {champion}" if champion else "no champion"
    if regardless is not None:
        kind, reason = "override", f"version {challenger} against {against}, whatever the gates say: {regardless}"
        reason += f" (not passed: {failed})" if failed else ""
    else:
        kind = "promote" if verdict.passed else "refuse"
        reason = f"version {challenger} against {against}: " + (failed or f"passed all {len(verdict.gates)} gates")
    return Decision(model.name, kind, challenger, champion or "", reason, verdict.gates, verdict.difference, decided)


def images_of(version: "ModelVersion") -> str:
    return version.tags.get("hymunet.test_images_sha256", "")


def _carried_out(model: Model, state: State, version: "ModelVersion", decision: Decision) -> Decision:
    """The entry, then the alias, then the tag: what is killed in between leaves the old champion or the new one."""
    compared = decision.against and decision.difference is not None
    entry = model.ledger.append(
        decision.kind,
        decision.version,
        state,
        reason=decision.reason,
        images=images_of(version) if compared else "",
        decision={"gates": [asdict(gate) for gate in decision.gates], "difference": decision.difference},
    )
    if decision.promoted:
        model.ledger.settle(model.exists)
        model.client.set_model_version_tag(model.name, decision.version, REASON_TAG, decision.reason)
    return Decision(**{**vars(decision), "entry": entry.number})
