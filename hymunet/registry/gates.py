"""What a challenger must show to become the champion: gates, each with its figure and its threshold.

Pure functions of two versions' evidence. A gate that cannot be evaluated fails, and says what is missing.

The n-th decision on a set of test images has the share 2 / n(n+1) of the first one's error and margin. These shares
add up to 2: however often a set decides, the chance that it ever calls an equal model superior stays below 5 %
(Bonferroni's inequality, spent over time), and a chain of slightly worse champions gives away less than two margins.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from hymunet import params
from hymunet.evaluation.statistics import paired_difference
from hymunet.registry.evidence import Evidence, Scores
from hymunet.registry.words import counted

ERROR = 0.025  # of the first decision: the lower end of a 95 % interval
RESAMPLES, IN_TAIL, SEED = 10_000, 20, 0  # draws, or as many as put IN_TAIL of them beyond the interval's end
SLICE = 20  # images
LEFT_OUT = 0.05  # of the test images
SIZES = ("small", "medium", "large")
UNKNOWN = "not known"


@dataclass(frozen=True)
class Gate:
    """figure, threshold: in words, with numbers. why: where it failed, what that means or what to do."""

    name: str
    passed: bool
    figure: str
    threshold: str
    why: str = ""


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


class Missing(Exception):
    """What a gate would need and the evidence lacks."""


def judge(challenger: Evidence, champion: Evidence | None, policy: params.Promote, decided: int) -> Verdict:
    """decided: how many decisions these test images have made already. champion: None where there is none."""
    alone: list[Callable[[], Gate]] = [
        lambda: one_making(challenger),
        lambda: few_left_out(challenger),
        lambda: data_checks(challenger),
        lambda: no_leak(challenger, policy.max_leaked),
        lambda: reproducible(challenger, policy.reproducible),
        lambda: floor(challenger, policy.min_dice),
        lambda: few_missed(challenger, policy.max_missed),
    ]
    names = ["records", "images left out", "data checks", "leakage", "reproducible", "Dice floor", "missed"]
    gates = [_tried(name, gate) for name, gate in zip(names, alone, strict=True)]
    if champion is None:
        return Verdict(tuple(gates), None)
    try:
        pair = Pair.of(challenger, champion, decided)
    except Missing as error:
        refused = Gate("same test images", False, UNKNOWN, "the same files", str(error))
        return Verdict((*gates, refused), None)
    gates.append(Gate("same test images", True, counted(len(pair.ours.ids), "image"), "the same files"))
    gates += [use(decided, policy.max_decisions), pair.better(policy), pair.no_more_missed(policy.more_missed)]
    gates += pair.slices(policy.slice_margin)
    return Verdict(tuple(gates), pair.interval)


def one_making(version: Evidence) -> Gate:
    """The records name the weights, the split, the test images and the scores that lie there."""
    if version.missing:
        raise Missing("; ".join(version.missing))
    found = {
        "weights_sha256": version.hashes["weights"],
        "split_sha256": version.hashes["split"],
        "per_image_sha256": version.hashes["scores"],
        "test_images_sha256": version.test_images,
        "data_sha256": version.model.get("data_sha256"),
    }
    wrong = [f"metrics.json: {key}" for key, value in found.items() if not value or version.metrics.get(key) != value]
    wrong += [
        f"model.json: {key}" for key in ("weights_sha256", "split_sha256") if version.model.get(key) != found[key]
    ]
    if version.scores is None or set(version.scores.ids) != version.tested:
        wrong.append("per_image.csv: other images than the split's test images")
    said = "the weights, the evaluation or the split are of another making, or were changed since"
    return Gate("records", not wrong, ", ".join(wrong) or "all agree", "all agree", said if wrong else "")


def few_left_out(version: Evidence) -> Gate:
    """Test images that the evaluation could not use (`on_bad: drop`): who leaves out the hard ones scores well."""
    if not version.images:
        raise Missing(_lacks(version, "the split"))
    left, of = len(version.left_out), len(version.tested | version.left_out)
    passed = left <= LEFT_OUT * of
    why = "" if passed else "mend these images and evaluate again"
    return Gate("images left out", passed, f"{left} of {of}", f"at most {LEFT_OUT:.0%}", why)


def data_checks(version: Evidence) -> Gate:
    if not version.verdict:
        raise Missing(_lacks(version, "the verdict of the data checks"))
    own = all(version.verdict.get(key) == version.model.get(key) for key in ("data_sha256", "split_sha256"))
    passed = version.verdict.get("passed") is True
    figure = ("passed" if passed else "failed") + ("" if own else ", on other data")
    why = "" if own and passed else "see the report of the validate step, mend the data, train again"
    return Gate("data checks", own and passed, figure, "passed, on the data trained with", why)


def no_leak(version: Evidence, most: int) -> Gate:
    """Test images whose file, or a near-duplicate, is among the images of training or validation."""
    if not version.images:
        raise Missing(_lacks(version, "the split"))
    seen = [image for image in version.images.values() if image.part != "test"]
    groups, files = {image.group for image in seen}, {image.sha256 for image in seen}
    leaked = sorted(
        id
        for id, image in version.images.items()
        if image.part == "test" and (image.group in groups or image.sha256 in files)
    )
    named = f": {', '.join(leaked[:3])}{', …' if len(leaked) > 3 else ''}" if leaked else ""
    why = "a score on images that were trained with says nothing; split with protocol grouped and train again"
    passed = len(leaked) <= most
    return Gate(
        "leakage", passed, f"{counted(len(leaked), 'test image')}{named}", f"at most {most}", "" if passed else why
    )


def reproducible(version: Evidence, asked: bool) -> Gate:
    commit = version.commit if version.commit not in ("", "unknown") else "no commit"
    lock = "dvc.lock known" if version.lock not in ("", "none") else "no dvc.lock"
    good = commit != "no commit" and not commit.endswith("-dirty") and lock == "dvc.lock known"
    shown = commit[:12] + "-dirty" * commit.endswith("-dirty")
    why = "" if good or not asked else "commit what changed and run dvc repro, so that this model can be made again"
    return Gate("reproducible", good or not asked, f"{shown}, {lock}", "asked for" if asked else "not asked for", why)


def floor(version: Evidence, least: float) -> Gate:
    mean = float(_scores(version).dice.mean())
    return Gate("Dice floor", mean >= least, f"{mean:.4f}", f"at least {least:g}")


def few_missed(version: Evidence, most: float) -> Gate:
    scores = _scores(version)
    share = scores.missed / len(scores.ids)
    return Gate("missed", share <= most, f"{scores.missed} of {len(scores.ids)}", f"at most {most:.1%}")


def use(decided: int, most: int) -> Gate:
    why = "these images have decided too often to be believed; draw fresh test images"
    passed = decided < most
    return Gate("use of the test images", passed, f"decision {decided + 1}", f"at most {most}", "" if passed else why)


def share(decided: int) -> float:
    """Of the first decision's error and margin, for the one after `decided` others on the same test images."""
    return 2 / ((decided + 1) * (decided + 2))


@dataclass(frozen=True)
class Pair:
    """Both versions' scores of the same images, in the same order, and the interval of the mean difference."""

    ours: Scores
    theirs: Scores
    decided: int
    interval: dict[str, float]

    @classmethod
    def of(cls, challenger: Evidence, champion: Evidence, decided: int) -> "Pair":
        """Raises Missing unless both were tested on the same files, and the near-duplicates among them are known."""
        ours, theirs = _scores(challenger), _scores(champion)
        named = [version.metrics.get("test_images_sha256") for version in (challenger, champion)]
        if named[0] is None or named[0] != named[1] or set(ours.ids) != set(theirs.ids):
            raise Missing(f"version {challenger.version} and version {champion.version} were tested on other images")
        if champion.metrics.get("per_image_sha256") != champion.hashes.get("scores"):
            raise Missing(f"version {champion.version}'s per_image.csv is not that of its metrics.json")
        if not set(ours.ids) <= challenger.images.keys():
            raise Missing(_lacks(challenger, "the split, which names the near-duplicates"))
        theirs = theirs.of(ours.ids)
        tail = ERROR * share(decided)
        draws = max(RESAMPLES, int(np.ceil(IN_TAIL / tail)))
        groups = [challenger.images[id].group for id in ours.ids]
        found = paired_difference(ours.dice, theirs.dice, draws, SEED, groups, tail)
        return cls(ours, theirs, decided, {key: float(found[key]) for key in ("mean", "low", "high")})

    def better(self, policy: params.Promote) -> Gate:
        level = f"{1 - 2 * ERROR * share(self.decided):.4%}".rstrip("0%").rstrip(".")
        mean, low, high = self.interval.values()
        figure = f"{mean:+.4f} ({level} % interval {low:+.4f} to {high:+.4f})"
        if policy.rule == "superiority":
            return Gate("Dice", low > 0, figure, "lower end above 0", "" if low > 0 else "not better for certain")
        margin = policy.margin * share(self.decided)
        passed = low >= -margin
        why = "" if passed else "that it is not worse is not certain enough"
        return Gate("Dice", passed, figure, f"lower end at least {-margin:+.4f}", why)

    def no_more_missed(self, more: int) -> Gate:
        ours, theirs = self.ours.missed, self.theirs.missed
        return Gate("lesions missed", ours <= theirs + more, f"{ours}, champion {theirs}", f"at most {theirs + more}")

    def slices(self, margin: float) -> Iterator[Gate]:
        """Small, medium and large lesions: thirds of the test images by the true mask's pixels; those large enough."""
        difference = self.ours.dice - self.theirs.dice
        for name, rows in zip(SIZES, thirds(self.ours.truth), strict=True):
            if len(rows) >= SLICE:
                mean = float(difference[rows].mean())
                figure = f"{mean:+.4f} over {len(rows)} images"
                yield Gate(f"{name} lesions", mean >= -margin, figure, f"at least {-margin:+.4f}")


def thirds(values: np.ndarray) -> list[np.ndarray]:
    """Rows of the lower, middle and upper third; equals stay in the order that they have."""
    return np.array_split(np.argsort(values, kind="stable"), len(SIZES))


def _tried(name: str, gate: Callable[[], Gate]) -> Gate:
    try:
        return gate()
    except Missing as error:
        return Gate(name, False, UNKNOWN, "known", str(error))


def _scores(version: Evidence) -> Scores:
    if version.scores is None:
        raise Missing(_lacks(version, "the scores of its test images"))
    return version.scores


def _lacks(version: Evidence, what: str) -> str:
    reasons = f" ({'; '.join(version.missing)})" if version.missing else ""
    return f"version {version.version} does not hold {what}{reasons}; register it again"
