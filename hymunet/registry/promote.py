"""Which version is the champion: promotion through the gates, with approval or without, and the way back.

The ledger is the truth.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace

from hymunet import params
from hymunet.mlflow_store import errors
from hymunet.registry.client import CHAMPION, REGISTER, Unavailable, public_uri
from hymunet.registry.decide import Decision, Rescore, decide
from hymunet.registry.ledger import Entry, State, who
from hymunet.registry.model import Model, challenger_of, last_left, opened

REASON_TAG = "hymunet.promotion"  # of a version: why it was promoted, for who looks at MLflow's pages
REGARDLESS = "hymunet models promote --regardless --reason WHY"
REQUEST = "request"


class TakenBack(ValueError):
    """The version was champion, and another one was put in its place."""


def promote(
    name: str,
    policy: params.Promote,
    version: str | None = None,
    regardless: str | None = None,
    dry_run: bool = False,
    rescore: Rescore | None = None,
) -> Decision:
    """Makes a version, by default the challenger, the champion if it passes every gate; the decision is in the ledger.

    Where the policy asks for approval, what would be promoted becomes a request. regardless: why it is to be champion
    whatever the gates say; kept with what they said. dry_run: only says. rescore: the champion is scored again where it
    was tested on other images. Raises ValueError when there is no such version, it was taken back, it is the last one
    left of those before a champion that was deleted, or another one was promoted meanwhile.
    """
    with opened(name) as model:
        versions = model.versions()
        challenger = challenger_of(model, versions, version)
        state = model.ledger.state() if dry_run else model.in_order()
        if state.champion == challenger:
            return _already(name, challenger)
        better = state.taken_back.get(challenger)
        if better and regardless is None:
            raise TakenBack(
                f"{name} version {challenger} was champion and was taken back for version {better}; register another, "
                f"or promote it all the same: {REGARDLESS}"
            )
        champion = last_left(state, versions)
        decision = decide(model, versions, challenger, champion, policy, regardless, rescore)
        if policy.approval and decision.promoted:
            decision = replace(decision, kind=REQUEST)
        said = {} if regardless is None else {"regardless": regardless}
        return decision if dry_run else _carried_out(model, state, decision, said)


def _already(name: str, champion: str) -> Decision:
    return Decision(name, "none", champion, champion, f"version {champion} is the champion already")


def approve(
    name: str,
    policy: params.Promote,
    reason: str,
    version: str | None = None,
    dry_run: bool = False,
    rescore: Rescore | None = None,
) -> Decision:
    """Approves the last open request, or the one for a version: the gates are asked again, then it is champion.

    Raises ValueError where there is no open request, or who approves is who requested.
    """
    with opened(name) as model:
        versions = model.versions()
        state = model.ledger.state() if dry_run else model.in_order()
        left = [entry for entry in model.ledger.entries() if entry.version in versions]
        request = open_request(left, state, version)
        if request is None:
            wanted = f" for version {version}" if version else ""
            raise ValueError(f"{name} has no open request{wanted}; with promote.approval: true, hymunet models promote")
        if request.by == who():
            raise ValueError(
                f"{request.by} requested the promotion of version {request.version} (entry {request.number}); a second "
                "person approves it"
            )
        regardless = request.decision.get("regardless")
        champion = last_left(state, versions)
        decision = decide(model, versions, request.version, champion, policy, regardless, rescore)
        approval = {"by": who(), "reason": reason, "request": request.number, "requested_by": request.by}
        if decision.promoted:
            text = f"{decision.reason}; requested by {request.by} (entry {request.number}), approved: {reason}"
            decision = replace(decision, reason=text)
        said = {"approval": approval} if decision.promoted else {}
        return decision if dry_run else _carried_out(model, state, decision, said)


def open_request(entries: list[Entry], state: State, version: str | None = None) -> Entry | None:
    """The last request, of this version where one is named, that no refusal or change of the champion has followed."""
    refused = set()
    for entry in reversed(entries):
        if entry.after != state.head or entry.number in state.void:
            continue
        if entry.kind == "refuse":
            refused.add(entry.version)
        if entry.kind == REQUEST and entry.version not in refused and version in (None, entry.version):
            return entry
    return None


def compare(
    name: str,
    policy: params.Promote,
    version: str | None = None,
    other: str | None = None,
    rescore: Rescore | None = None,
) -> Decision:
    """What promotion would say of a version against another one, by default the challenger against the champion."""
    with opened(name) as model:
        versions = model.versions()
        challenger = challenger_of(model, versions, version)
        state = model.ledger.state()
        champion = other or last_left(state, versions)
        if champion and champion not in versions:
            raise ValueError(f"{name} has no version {champion}; see: hymunet models list")
        if other == challenger:
            raise ValueError(
                f"{name} version {other} would be compared with itself; name another one: --against VERSION"
            )
        if state.champion == challenger == champion:
            return _already(name, challenger)
        return decide(model, versions, challenger, champion, policy, None, rescore)


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
            raise ValueError(f"{name} version {target} {_why_not(target, present, state, versions, before)}")
        if not dry_run:
            entry = model.ledger.append("rollback", target, state, reason=reason)
            _settled(model, entry)
        return present or "none", target


def _why_not(target: str, present: str | None, state: State, versions: Mapping[str, object], before: list[str]) -> str:
    """Why a rollback cannot go to that version, and what can be done."""
    left = f"a rollback may go to: {', '.join(before) or 'none'}"
    if target == present:
        return f"is the champion already; {left}"
    if target not in versions:
        return f"is not in the registry; {left}"
    if target in state.taken_back:
        return (
            f"was taken back for version {state.taken_back[target]}; to have it again, promote it: "
            f"hymunet models promote {target} --regardless --reason WHY"
        )
    return f"was no champion before; {left}"


def _settled(model: Model, entry: Entry) -> None:
    """Where the alias cannot be set, what stands all the same is said as well."""
    try:
        model.ledger.settle(model.exists)
    except Exception as error:
        if not errors.is_mlflow_s(error) and not isinstance(error, Unavailable):
            raise
        raise Unavailable(
            f"version {entry.version} of {model.name} is champion by entry {entry.number} of the ledger, but the alias "
            f"{CHAMPION} was not set; set it with: hymunet models verify --name {model.name} "
            f"(MLflow at {public_uri()}: {errors.in_words(error)})"
        ) from error


def _carried_out(model: Model, state: State, decision: Decision, said: Mapping[str, object]) -> Decision:
    """The entry, then the alias, then the tag: what is killed in between leaves the old champion or the new one."""
    compared = decision.against and decision.difference is not None
    entry = model.ledger.append(
        decision.kind,
        decision.version,
        state,
        reason=decision.reason,
        images=decision.images if compared else "",
        decision={"gates": [asdict(gate) for gate in decision.gates], "difference": decision.difference, **said},
    )
    if decision.promoted:
        _settled(model, entry)
        model.client.set_model_version_tag(model.name, decision.version, REASON_TAG, decision.reason)
    return replace(decision, entry=entry.number)
