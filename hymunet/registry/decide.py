"""What the gates say of one version against another one, with all that they need fetched, measured and scored."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hymunet import params
from hymunet.registry import gates, single
from hymunet.registry.evidence import TESTED, Evidence
from hymunet.registry.fetch import fetched
from hymunet.registry.gate import Gate
from hymunet.registry.ledger import Reading
from hymunet.registry.model import Model

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


# Scores a champion, of whom there are evidence and a folder, on the test images of the challenger's evidence.
Rescore = Callable[[Evidence, Path, Evidence], Evidence]


class WasChampion(ValueError):
    """The champion was deleted, and the version asked for is the last one before it: it would be its own rival."""


@dataclass(frozen=True)
class Decision:
    """kind: promote, override, refuse, request (it waits for approval), or none where it is the champion already.

    against: the champion it was compared with, or empty. gates: each with figure and threshold. images: hash of the
    test images that they compare on. entry: in the ledger.
    """

    model: str
    kind: str
    version: str
    against: str
    reason: str
    gates: tuple[Gate, ...] = ()
    difference: dict[str, float] | None = None
    decided_before: int = 0
    images: str = ""
    entry: int | None = None

    @property
    def promoted(self) -> bool:
        """Whether the alias `champion` names the challenger now (or, of a rehearsal, would)."""
        return self.kind not in ("refuse", "request")


def decide(
    model: Model,
    versions: dict[str, "ModelVersion"],
    challenger: str,
    champion: str | None,
    policy: params.Promote,
    regardless: str | None = None,
    rescore: Rescore | None = None,
) -> Decision:
    """Nothing is recorded. regardless: why it is to be champion whatever the gates say.

    Raises WasChampion where the two are one version.
    """
    if champion == challenger:
        raise WasChampion(
            f"{model.name} version {challenger} was champion before the present one, which was deleted; there is none "
            f"to compare it with: hymunet models rollback --to {challenger} makes it champion again"
        )
    ledger = model.ledger.sound()
    with ExitStack() as stack:
        found = [
            stack.enter_context(fetched(model.client, versions[one], bool(policy.signed_by) or wanted))
            for one, wanted in ((challenger, policy.contract), (champion, False))
            if one
        ]
        pair = [evidence for evidence, _ in found]
        if policy.contract:
            pair[0] = _run(*found[0], policy)
        if champion:
            pair = _measured(pair, [folder for _, folder in found], policy)
            tested = [one.metrics.get(TESTED) for one in pair]
            if rescore and None not in tested and tested[0] != tested[1]:
                pair[1] = rescore(pair[1], found[1][1], pair[0])
        images = images_of(pair[0])
        decided = decided_before(ledger, images, challenger, champion or "")
        verdict = gates.judge(pair[0], pair[1] if champion else None, policy, decided)
    failed = "; ".join(f"{gate.name} {gate.figure}, {gate.threshold}" for gate in verdict.failed)
    against = f"version {champion}" if champion else "no champion"
    if regardless is not None:
        kind, reason = "override", f"version {challenger} against {against}, whatever the gates say: {regardless}"
        reason += f" (not passed: {failed})" if failed else ""
    else:
        kind = "promote" if verdict.passed else "refuse"
        reason = f"version {challenger} against {against}: " + (failed or f"passed all {len(verdict.gates)} gates")
    against = champion or ""
    return Decision(model.name, kind, challenger, against, reason, verdict.gates, verdict.difference, decided, images)


def decided_before(ledger: Reading, images: str, challenger: str, champion: str) -> int:
    """How many other pairs of versions these test images have decided on.

    Each entry that was deleted or changed counts as one: what it decided is lost, and who deletes it gains no decision.
    """
    pairs = {(entry.version, entry.against) for entry in ledger.entries if entry.images and entry.images == images}
    return len(pairs - {(challenger, champion)}) + len(ledger.faults)


def images_of(version: Evidence) -> str:
    """Hash of its test images, as its evaluation says: the gates hold that against the files, and no tag, which can be
    changed on MLflow's pages."""
    return str(version.metrics.get(TESTED, ""))


def _run(version: Evidence, folder: Path, policy: params.Promote) -> Evidence:
    """Held to its contract. Its code is run only where all files are those registered and, if asked for, signed."""
    from hymunet.registry import contract

    if version.seal is None or version.seal.problems is None:
        return replace(version, untried="its code was not run: there is no manifest of its files; register it again")
    if version.seal.problems:
        return replace(version, untried=f"its code was not run: {'; '.join(version.seal.problems[:3])}")
    signed = single.signature(version, policy.signed_by)
    if not signed.passed:
        return replace(version, untried=f"its code was not run: {signed.figure}")
    if not (folder / contract.PROMISE).is_file():
        return replace(version, untried=f"version {version.version} has no {contract.PROMISE}; register it again")
    try:
        return replace(version, broken=tuple(contract.broken(folder)))
    except contract.NoEnvironment as error:
        return replace(version, untried=str(error))


def _measured(pair: list[Evidence], folders: list[Path], policy: params.Promote) -> list[Evidence]:
    """With what both cost on this machine, where the policy asks for it; where one does not run, why."""
    if policy.max_slower is None and policy.max_larger is None:
        return pair
    try:
        from hymunet.inference import Segmenter
        from hymunet.registry.cost import measure

        places = [(folder / "artifacts/model", folder / "evaluation") for folder in folders]
        found = measure([Segmenter.as_tested(model, evaluation, "cpu") for model, evaluation in places])
    except ValueError as error:
        return [replace(one, unmeasured=str(error)) for one in pair]
    return [replace(one, cost=cost) for one, cost in zip(pair, found, strict=True)]
