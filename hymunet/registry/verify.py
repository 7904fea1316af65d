"""Whether a registry is as its ledger says, and what is set right where it is not."""

from dataclasses import dataclass

from hymunet.registry import single
from hymunet.registry.client import CHAMPION
from hymunet.registry.fetch import fetched
from hymunet.registry.gate import Missing
from hymunet.registry.model import by_hand, opened


@dataclass(frozen=True)
class Finding:
    """mended: set right; None: it needs a person, and `text` says what to do."""

    text: str
    mended: bool | None


@dataclass(frozen=True)
class Examined:
    """champion: by the ledger, which has so many entries; findings: all that is not as it should be."""

    model: str
    champion: str | None
    entries: int
    findings: tuple[Finding, ...]


def verify(name: str, dry_run: bool = False) -> Examined:
    """Sets the alias `champion` to the ledger's champion; checks the champion's records and weights against each other.

    dry_run: only says.
    """
    with opened(name) as model:
        entries, state, alias = model.ledger.entries(), model.ledger.state(), model.ledger.alias()
        versions, champion = model.versions(), state.champion
        findings = [
            Finding(f"entry {number} of the ledger was deleted; who was champion by it is not known any more", None)
            for number in state.lost
        ]
        if champion is not None and champion not in versions:
            advice = "hymunet models rollback" if len(state.champions) > 1 else "promote another"
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
        return Examined(name, champion, len(entries), tuple(findings))


def _records(model, version) -> list[Finding]:  # type: ignore[no-untyped-def]
    try:
        with fetched(model.client, version, whole=True) as (evidence, _):
            if evidence.seal and evidence.seal.problems:
                return [Finding(f"version {version.version}: {problem}", None) for problem in evidence.seal.problems]
            gate = single.one_making(evidence)
    except Missing as error:
        return [Finding(f"version {version.version}: {error}; register it again and promote that", None)]
    return [] if gate.passed else [Finding(f"version {version.version}: {gate.figure}; {gate.why}", None)]
