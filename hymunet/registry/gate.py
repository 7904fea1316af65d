"""What every gate is: a name, a figure beside its threshold, and whether it passed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hymunet.registry.evidence import Evidence, Scores

UNKNOWN = "not known"
NOT_ASKED = "not asked for"
AGAIN = "register it again"


@dataclass(frozen=True)
class Gate:
    """figure, threshold: in words, with numbers. why: where it failed, what that means or what to do."""

    name: str
    passed: bool
    figure: str
    threshold: str
    why: str = ""


class Missing(Exception):
    """What a gate would need and the evidence lacks."""


def tried(name: str, gate: Callable[[], Gate]) -> Gate:
    """A gate that cannot be evaluated fails, and says what is missing."""
    try:
        return gate()
    except Missing as error:
        return Gate(name, False, UNKNOWN, "known", str(error))


def at_most(name: str, value: float, bound: float, figure: str, threshold: str, why: str = "") -> Gate:
    """Passed where the value does not exceed the bound."""
    passed = value <= bound
    return Gate(name, passed, figure, threshold, "" if passed else why)


def scores_of(version: Evidence, remedy: str = AGAIN) -> Scores:
    if version.scores is None:
        raise Missing(lacks(version, "the scores of its test images", remedy))
    return version.scores


def recorded(version: Evidence, *keys: str) -> Any:
    """What metrics.json says under these keys, one inside the other."""
    found: Any = version.metrics
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    if found is None:
        raise Missing(f"version {version.version}'s metrics.json says nothing of {'.'.join(keys)}; evaluate it again")
    return found


def lacks(version: Evidence, what: str, remedy: str = AGAIN) -> str:
    reasons = f" ({'; '.join(version.missing)})" if version.missing else ""
    return f"version {version.version} does not hold {what}{reasons}; {remedy}"
