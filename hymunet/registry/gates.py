"""What a challenger must show to become the champion: gates, each with its figure and its threshold.

Pure functions of two versions' evidence. A gate that cannot be evaluated fails, and says what is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hymunet import params
from hymunet.registry import pair, single
from hymunet.registry.evidence import Evidence
from hymunet.registry.gate import UNKNOWN, Gate, Missing, tried


@dataclass(frozen=True)
class Verdict:
    """Of all gates. difference: of mean Dice with its interval; None where there is nothing to compare with."""

    gates: tuple[Gate, ...]
    difference: dict[str, float] | None

    @property
    def passed(self) -> bool:
        return all(gate.passed for gate in self.gates)

    @property
    def failed(self) -> list[Gate]:
        return [gate for gate in self.gates if not gate.passed]


def judge(challenger: Evidence, champion: Evidence | None, policy: params.Promote, decided: int) -> Verdict:
    """decided: how many decisions these test images have made already. champion: None where there is none."""
    alone: dict[str, Callable[[], Gate]] = {
        "records": lambda: single.one_making(challenger),
        "images left out": lambda: single.few_left_out(challenger),
        "data checks": lambda: single.data_checks(challenger),
        "leakage": lambda: single.no_leak(challenger, policy.max_leaked),
        "reproducible": lambda: single.reproducible(challenger, policy.reproducible),
        "signature": lambda: single.signature(challenger, policy.signed_by),
        "contract": lambda: single.contract(challenger, policy.contract),
        "Dice floor": lambda: single.floor(challenger, policy.min_dice),
        "missed": lambda: single.few_missed(challenger, policy.max_missed),
        "calibration": lambda: single.calibrated(challenger, policy.max_ece),
        "behaviour": lambda: single.steady(challenger, policy.max_shift_drop),
    }
    gates = [tried(name, gate) for name, gate in alone.items()]
    if champion is None:
        return Verdict(tuple(gates), None)
    gates += pair.costs(challenger, champion, policy)
    try:
        both = pair.Pair.of(challenger, champion, decided)
    except Missing as error:
        refused = Gate("same test images", False, UNKNOWN, "the same files", str(error))
        return Verdict((*gates, refused), None)
    gates += [
        both.same(champion.rescored),
        pair.use(decided, policy.max_decisions),
        both.better(policy),
        both.no_more_missed(policy.more_missed),
        *both.no_more_alarms(),
        *both.sizes(policy.slice_margin),
        tried("slices", lambda: both.slices(policy.slice_margin)),
    ]
    return Verdict(tuple(gates), both.interval)
