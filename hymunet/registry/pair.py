"""Gates on two versions: the same images scored by both, and what both cost on one machine.

The n-th decision on a set of test images has the share 2 / n(n+1) of the first one's error and margin. These shares
add up to 2: however often a set decides, the chance that it ever calls an equal model superior stays below 5 %
(Bonferroni's inequality, spent over time), and a chain of slightly worse champions gives away less than two margins.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hymunet import params
from hymunet.data.grouping import together
from hymunet.evaluation.slices import COLUMNS, SMALL, members
from hymunet.evaluation.statistics import paired_difference, sign_test
from hymunet.registry.evidence import TESTED, Evidence, Scores
from hymunet.registry.gate import AGAIN, NOT_ASKED, Gate, Missing, at_most, lacks, scores_of
from hymunet.registry.likeness import alike
from hymunet.registry.words import counted

ERROR = 0.025  # of the first decision: the lower end of a 95 % interval
RESAMPLES, IN_TAIL, SEED = 10_000, 20, 0  # draws, or as many as put IN_TAIL of them beyond the interval's end
SLICE = SMALL  # images from which on a slice counts
SIZES = ("small", "medium", "large")
RESTORE = "put that file back where its artifacts are, or promote without a comparison: --regardless --reason WHY"


def share(decided: int) -> float:
    """Of the first decision's error and margin, for the one after `decided` others on the same test images."""
    return 2 / ((decided + 1) * (decided + 2))


def use(decided: int, most: int) -> Gate:
    why = "these images have decided too often to be believed; draw fresh test images"
    return at_most("use of the test images", decided + 1, most, f"decision {decided + 1}", f"at most {most}", why)


@dataclass(frozen=True)
class Pair:
    """Both versions' scores of the same images, in the same order, and the interval of the mean difference.

    groups: of each image, those that are drawn together. native: Dice is at the images' own size. left: how many images
    were left out, the champion being trained with them.
    """

    ours: Scores
    theirs: Scores
    decided: int
    interval: dict[str, float]
    native: bool
    left: int
    groups: list[str]

    @classmethod
    def of(cls, challenger: Evidence, champion: Evidence, decided: int) -> "Pair":
        """Raises Missing unless both were tested on the same files, and the near-duplicates among them are known."""
        for version, remedy in ((challenger, AGAIN), (champion, RESTORE)):
            if TESTED not in version.metrics:
                raise Missing(lacks(version, f"the record of its test images, {TESTED} of metrics.json", remedy))
        ours, theirs = scores_of(challenger), scores_of(champion, RESTORE)
        if champion.changed:
            raise Missing(
                f"version {champion.version}, to compare with, is not as it was registered: "
                f"{'; '.join(champion.changed[:3])}; hymunet models verify names all"
            )
        if challenger.metrics[TESTED] != champion.metrics[TESTED] or set(ours.ids) != set(theirs.ids):
            raise Missing(
                f"version {challenger.version} and version {champion.version} were tested on other images; with the "
                "challenger's images at hand, have the champion scored on them: --rescore"
            )
        if champion.metrics.get("per_image_sha256") != champion.hashes.get("scores"):
            raise Missing(f"version {champion.version}'s per_image.csv is not that of its metrics.json")
        if not set(ours.ids) <= challenger.images.keys():
            raise Missing(lacks(challenger, "the split, which names the near-duplicates"))
        ids = _unseen(challenger, champion, ours.ids)
        ours, theirs = ours.of(ids), theirs.of(ids)
        native = ours.native is not None and theirs.native is not None
        if native:
            ours, theirs = ours.at_own_size(), theirs.at_own_size()
        elif challenger.metrics.get("image_size") != champion.metrics.get("image_size"):
            raise Missing("the two were tested at different sizes, and one has no scores at the images' own")
        tail = ERROR * share(decided)
        draws = max(RESAMPLES, int(np.ceil(IN_TAIL / tail)))
        groups, _ = together([challenger.images[id].group for id in ids], _groups(champion, challenger, ids))
        if len(set(groups)) < 2:
            raise Missing(
                f"{counted(len(ids), 'test image')}, all of one group: an interval over groups tells nothing of other "
                "images; test both versions on images of more groups"
            )
        found = paired_difference(ours.dice, theirs.dice, draws, SEED, groups, tail)
        interval = {key: float(found[key]) for key in ("mean", "low", "high")}
        return cls(ours, theirs, decided, interval, native, len(scores_of(challenger).ids) - len(ids), groups)

    def same(self, rescored: bool) -> Gate:
        """What is compared: how many images, at which size, and who was scored again for it."""
        figure = counted(len(self.ours.ids), "image") + (" at their own size" if self.native else "")
        trained = "the champion was trained with them or with images that look like them"
        figure += f" ({self.left} more left out: {trained})" if self.left else ""
        return Gate(
            "same test images", True, figure + (", the champion scored again" if rescored else ""), "the same files"
        )

    def better(self, policy: params.Promote) -> Gate:
        level = f"{1 - 2 * ERROR * share(self.decided):.2%}".rstrip("0%").rstrip(".")
        mean, low, high = self.interval.values()
        figure = f"{mean:+.4f} ({level} % interval {low:+.4f} to {high:+.4f})"
        if policy.rule == "superiority":
            return Gate("Dice", low > 0, figure, "lower end above 0", "" if low > 0 else "not better for certain")
        margin = policy.margin * share(self.decided)
        passed = low >= -margin
        why = "" if passed else "that it is not worse is not certain enough"
        return Gate("Dice", passed, figure, f"lower end at least {-margin:+.4f}", why)

    def no_more_missed(self, more: int) -> Gate:
        """Of the images in which either grid shows a lesion: a coarse one loses small ones."""
        shown = (self.ours.truth > 0) | (self.theirs.truth > 0)
        ours, theirs = (int((shown & (scores.dice == 0)).sum()) for scores in (self.ours, self.theirs))
        return at_most("lesions missed", ours, theirs + more, f"{ours}, champion {theirs}", f"at most {theirs + more}")

    def no_more_alarms(self) -> Iterator[Gate]:
        """Where both masks are empty in truth: the interval of the difference of the shares of false alarms."""
        rows = np.flatnonzero((self.ours.truth == 0) & (self.theirs.truth == 0))
        if not len(rows):
            return
        ours, theirs = (scores.false_alarms[rows].astype(float) for scores in (self.ours, self.theirs))
        groups = [self.groups[row] for row in rows]
        low = paired_difference(ours, theirs, RESAMPLES, SEED, groups, ERROR)["low"]
        figure = f"{ours.sum():.0f} of {len(rows)}, champion {theirs.sum():.0f}; difference at least {low:+.1%}"
        if low > 0 and sign_test(ours - theirs, groups) > ERROR:  # as where one image is all there is
            low, figure = 0.0, f"{ours.sum():.0f} of {len(rows)}, champion {theirs.sum():.0f}; too few to be certain"
        why = "it finds something in images without a lesion more often, for certain"
        yield at_most("false alarms", low, 0.0, figure, "not more for certain (95 % interval)", why)

    def sizes(self, margin: float) -> Iterator[Gate]:
        """Small, medium and large lesions: thirds of the test images that show one, by the true mask's pixels; those
        large enough."""
        shown = np.flatnonzero(self.ours.truth)
        for name, part in zip(SIZES, thirds(self.ours.truth[shown]), strict=True):
            rows = shown[part]
            if len(rows) >= SLICE:
                mean = float(self.difference[rows].mean())
                figure = f"{mean:+.4f} over {len(rows)} images"
                yield Gate(f"{name} lesions", mean >= -margin, figure, f"at least {-margin:+.4f}")

    def slices(self, margin: float) -> Gate:
        """The evaluation's slices, as the challenger's rows make them: the one where it loses most."""
        name, rows = "slices", self.ours.rows
        if absent := sorted(set(COLUMNS.values()) - set(rows[0] if rows else ())):
            raise Missing(f"the challenger's per_image.csv has no column {', '.join(absent)}; evaluate it again")
        found = {
            f"{slice}: {value}": (float(self.difference[positions].mean()), len(positions))
            for slice, values in members(rows).items()
            for value, positions in values.items()
            if len(positions) >= SLICE
        }
        if not found:
            return Gate(name, True, f"none of {SLICE} images", f"at least {-margin:+.4f}")
        worse = sorted((mean, images, slice) for slice, (mean, images) in found.items())
        failed = [f"{slice} {mean:+.4f}" for mean, images, slice in worse if mean < -margin]
        mean, images, slice = worse[0]
        figure = f"{mean:+.4f} over {images} images ({slice}), the worst of {len(found)}"
        return Gate(name, not failed, figure, f"at least {-margin:+.4f}", "; ".join(failed))

    @property
    def difference(self) -> np.ndarray:
        """Of Dice, (n,)."""
        return self.ours.dice - self.theirs.dice


def costs(challenger: Evidence, champion: Evidence, policy: params.Promote) -> Iterator[Gate]:
    """p95 latency and peak memory, as measured of both in one process, against the champion's."""
    for name, bound, unit, scale, key in (
        ("latency", policy.max_slower, "ms", 1e3, "p95"),
        ("memory", policy.max_larger, "MiB", 2**-20, "peak"),
    ):
        if bound is None:
            yield Gate(name, True, "not measured", NOT_ASKED)
            continue
        ours, theirs = (getattr(version.cost, key, None) for version in (challenger, champion))
        if ours is None or theirs is None:
            why = challenger.unmeasured or champion.unmeasured or "this system does not tell a process's peak memory"
            yield Gate(name, False, "not measured", f"at most {bound:g} times", why)
            continue
        figure = f"{scale * ours:.1f} {unit}, champion {scale * theirs:.1f} {unit}"
        yield at_most(name, ours, bound * theirs, figure, f"at most {bound:g} times")


def thirds(values: np.ndarray) -> list[np.ndarray]:
    """Rows of the lower, middle and upper third; equals stay in the order that they have."""
    return np.array_split(np.argsort(values, kind="stable"), len(SIZES))


def _groups(champion: Evidence, challenger: Evidence, ids: tuple[str, ...]) -> list[str]:
    """What the champion's own split puts together of the challenger's images; one that it does not have is alone."""
    known = {image.sha256: f"group {image.group}" for image in champion.images.values()}
    return [known.get(challenger.images[id].sha256, f"image {id}") for id in ids]


def _unseen(challenger: Evidence, champion: Evidence, ids: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the ids whose files, and near-duplicates in either's data, the champion was not trained with."""
    if not champion.images:
        if champion.rescored:
            raise Missing(lacks(champion, "the split, which names the images that it was trained with"))
        return ids
    trained = {image.sha256: image.likeness for image in champion.images.values() if image.part != "test"}
    seen = {image.group for image in challenger.images.values() if image.sha256 in trained}
    seen |= _looking_like(challenger, champion, trained)
    left = tuple(id for id in ids if challenger.images[id].group not in seen)
    if len(left) < min(SLICE, len(ids)):
        raise Missing(
            f"version {champion.version} was trained with all but {len(left)} of the {len(ids)} test images: what it "
            "scores on them says nothing; draw test images that neither has seen"
        )
    return left


def _looking_like(challenger: Evidence, champion: Evidence, trained: Mapping[str, str]) -> set[str]:
    """Groups of the challenger's images that look like one which the champion was trained with and it does not have.

    trained: the file's hash -> likeness. Between images that it has, its own groups say which are near-duplicates.
    """
    own = {image.sha256 for image in challenger.images.values()}
    foreign = [likeness for file, likeness in trained.items() if file not in own]
    tested = [challenger.images[id] for id in challenger.tested]
    if not foreign:
        return set()
    for version, hashes in ((champion, foreign), (challenger, [image.likeness for image in tested])):
        if not all(hashes):
            raise Missing(f"version {version.version} has no perceptual hashes of its images; register it again")
    found = alike([image.likeness for image in tested], foreign)
    return {image.group for image, seen in zip(tested, found, strict=True) if seen}
