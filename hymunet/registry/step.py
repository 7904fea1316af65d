"""The end of the register step: what the gates say of the version just registered, and, if asked for, its promotion."""

import json
from pathlib import Path

from hymunet import atomic, params
from hymunet.registry.decide import Decision, WasChampion
from hymunet.registry.decision import REHEARSED, markdown, record
from hymunet.registry.model import last_left, opened
from hymunet.registry.promote import TakenBack, compare, promote

REPORTS = ("decision.json", "decision.md")


def conclude(name: str, version: str, policy: params.Promote, output: Path) -> str:
    """Writes `decision.json` and `decision.md` into `output`, by `policy.step`; returns what happened, in a line.

    off: nothing, and what an earlier run wrote goes. manual: the gates' figures alone. auto: promotion, or a request
    where approval is asked for. A version that is refused fails no pipeline. What was decided on the same two versions
    before is not recorded again: the gates are rehearsed, which the line says.
    """
    if policy.step == "off":
        for report in REPORTS:
            (output / report).unlink(missing_ok=True)
        return ""
    with opened(name) as model:
        state, versions = model.ledger.state(), model.versions()
        pair = (version, last_left(state, versions) or "")
        known = any((entry.version, entry.against) == pair for entry in model.ledger.entries() if entry.decision)
    try:
        decision = _decided(name, version, policy, known)
    except (TakenBack, WasChampion) as error:
        decision = Decision(name, "refuse", *pair, reason=str(error))
    atomic.write(output / REPORTS[0], json.dumps(record(decision), indent=2) + "\n")
    rehearsed = known and decision.kind in ("promote", "request")
    carried_out = policy.step == "auto" and not rehearsed
    atomic.write(output / REPORTS[1], f"{markdown(decision, carried_out)}\n")
    if policy.step == "manual":
        passed = "passes every gate" if decision.promoted else "does not pass"
        return f"{name} version {version} {passed}; nothing is promoted (promote.step: manual): {output / REPORTS[1]}"
    if rehearsed:
        would = REHEARSED[decision.kind].format(version=version)
        return (
            f"it was decided before, and nothing was changed now; by a rehearsal {would} ({decision.reason}): "
            f"hymunet models promote {version} --name {name}"
        )
    return f"{decision.kind}: {decision.reason}"


def _decided(name: str, version: str, policy: params.Promote, known: bool) -> Decision:
    if policy.step == "manual":
        return compare(name, policy, version)
    return promote(name, policy, version, dry_run=known)
