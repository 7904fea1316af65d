"""Whether a registry is as its ledger says, and what is set right where it is not."""

from dataclasses import dataclass

from hymunet.registry import single
from hymunet.registry.acknowledge import what_became
from hymunet.registry.client import CHAMPION
from hymunet.registry.fetch import fetched
from hymunet.registry.gate import Missing
from hymunet.registry.ledger import remedy
from hymunet.registry.model import by_hand, last_left, opened


@dataclass(frozen=True)
class Finding:
    """mended: set right; None: it needs a person, and `text` says what to do."""

    text: str
    mended: bool | None


@dataclass(frozen=True)
class Examined:
    """champion: by the ledger, which has so many entries; findings: all that is not as it should be.

    accepted: what is not as it should be in the ledger and was acknowledged, with who, when and why.
    """

    model: str
    champion: str | None
    entries: int
    findings: tuple[Finding, ...]
    accepted: tuple[str, ...] = ()


def verify(name: str, dry_run: bool = False) -> Examined:
    """Sets the alias `champion` to the ledger's champion; checks the champion's records and weights against each other.

    dry_run: only says, as where an entry of the ledger was changed and nobody has acknowledged it.
    """
    with opened(name) as model:
        reading, alias = model.ledger.read(), model.ledger.alias()
        entries, state, still = reading.entries, model.ledger.state_of(reading.entries), reading.unaccepted()
        versions, champion = model.versions(), state.champion
        others = model.ledger.others(entries)
        dry_run = dry_run or bool(others) or any(number in reading.changed for number in still)
        findings = [Finding(f"{what_became(reading, number)}; {remedy(number)}", None) for number in still]
        findings += [Finding(text, None) for text in others]
        accepted = [
            f"{what_became(reading, number)}; {entry.by} in entry {entry.number}, {entry.when}: {entry.reason}"
            for number in sorted(reading.faults)
            if (entry := reading.accepted(number))
        ]
        if champion is not None and champion not in versions:
            advice = "hymunet models rollback" if last_left(state, versions) else "promote another"
            findings.append(Finding(f"version {champion}, the champion, was deleted; {advice}", None))
        elif state.head and champion is not None and alias != champion:
            held = f"names version {alias}" if alias else "is not there"
            how = "moved by hand" if by_hand(state, alias) else "left by a promotion that was interrupted"
            if not dry_run:
                model.ledger.settle(model.exists)
            text = f"the alias {CHAMPION} {held}, the ledger's champion is version {champion}: {how}"
            findings.append(Finding(text, not dry_run))
        if champion in versions:
            findings += _records(model, versions[champion])
        return Examined(name, champion, len(entries), tuple(findings), tuple(accepted))


def _records(model, version) -> list[Finding]:  # type: ignore[no-untyped-def]
    try:
        with fetched(model.client, version, whole=True) as (evidence, _):
            if evidence.seal and evidence.seal.problems:
                return [Finding(f"version {version.version}: {problem}", None) for problem in evidence.seal.problems]
            gate = single.one_making(evidence)
    except Missing as error:
        return [Finding(f"version {version.version}: {error}; register it again and promote that", None)]
    return [] if gate.passed else [Finding(f"version {version.version}: {gate.figure}; {gate.why}", None)]
