"""How sure a mean over test images is, and a difference between models: what would other images and other seeds say?

Scores of a model are `runs` (seeds, images): a row per training, its columns the same test images in the same order.
`groups` names for each image the near-duplicates that it belongs to: they are drawn together or not at all.
docs/statistics.md says which interval answers which question.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import TypedDict

import numpy as np

LEVEL = 0.95
NOISE = 1e-12  # of a score: what is below comes from the order of adding, as over three seeds and over five
FEW = 30  # groups, below which the bootstrap of a difference is too narrow
Groups = Sequence[str] | None  # None: every image by itself


class Estimate(TypedDict):
    """A mean and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % t interval. error: standard error. freedom: of t. seeds: whether it is over seeds, too."""

    mean: float
    low: float
    high: float
    error: float
    freedom: float
    seeds: bool


@dataclass(frozen=True)
class Comparison:
    """A reference less another model: never whether they differ without how much.

    difference: in the score's units. p: two-sided, of the same t as the interval; p_holm: adjusted for all models
    compared. false_claim: probability that the one which leads here does not lead. effect: Cohen's d over images.
    better: share of images on which the reference is the better one, ties by half.
    """

    name: str
    difference: Interval
    p: float
    p_holm: float
    false_claim: float
    effect: float
    better: float


@dataclass(frozen=True)
class Ranking:
    """Ranks of models by their means, 1 the best, and how they hold when images and seeds are drawn anew.

    low, high: of each model's rank, the middle 95 %. shares (models, ranks): how often each model takes each rank.
    tau: mean Kendall's tau between the ranks drawn and these; 1: the order never changes.
    """

    ranks: np.ndarray
    low: np.ndarray
    high: np.ndarray
    shares: np.ndarray
    tau: float


def bootstrap(
    values: np.ndarray, resamples: int, seed: int, groups: Groups = None, tail: float = (1 - LEVEL) / 2
) -> list[Estimate]:
    """values (images, k) -> one estimate per column; all columns share the resamples. At least one image.

    The percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13): what is left of the
    means of `resamples` draws with replacement, of whole groups (Field and Welsh, J. R. Stat. Soc. B 2007), without the
    share `tail` at either end.
    """
    values = np.asarray(values, np.float64)
    sums, sizes = _per_group(values.T, groups)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    for block, drawn in _draws(rng, resamples, len(sizes)):
        weights = sizes[drawn].sum(1)
        for column, total in enumerate(sums):
            means[block, column] = total[drawn].sum(1) / weights
    lows, highs = np.quantile(means, [tail, 1 - tail], axis=0)
    return [
        Estimate(mean=float(mean), low=float(low), high=float(high))
        for mean, low, high in zip(values.mean(0), lows, highs, strict=True)
    ]


def paired_difference(
    ours: np.ndarray,
    theirs: np.ndarray,
    resamples: int,
    seed: int,
    groups: Groups = None,
    tail: float = (1 - LEVEL) / 2,
) -> Estimate:
    """Mean of ours - theirs over the same images, each (images,), with an interval as `differences` gives it."""
    if ours.shape != theirs.shape:
        raise ValueError(f"scores of {len(ours)} and of {len(theirs)} images cannot be paired")
    return differences((np.asarray(ours) - np.asarray(theirs))[:, None], resamples, seed, groups, tail)[0]


def differences(
    values: np.ndarray, resamples: int, seed: int, groups: Groups = None, tail: float = (1 - LEVEL) / 2
) -> list[Estimate]:
    """Paired differences (images, k) -> one estimate per column, as `bootstrap`; of fewer than 30 groups never narrower
    than Student's t over them.

    Draws from a few groups know no spread beyond theirs: of two, equal models differ "for certain" every other time. Of
    one nothing is known, and the interval has no width: who decides by it asks for two.
    """
    found = bootstrap(values, resamples, seed, groups, tail)
    values = np.asarray(values, np.float64)
    sums, sizes = _per_group((values - values.mean(0)).T, groups)
    if not 2 <= len(sizes) < FEW:
        return found
    from scipy import stats

    errors = np.sqrt(len(sizes) / (len(sizes) - 1) * (sums**2).sum(1)) / len(values)
    margins = errors * float(stats.t.ppf(1 - tail, len(sizes) - 1))
    return [
        Estimate(
            mean=one["mean"],
            low=min(one["low"], one["mean"] - float(margin)),
            high=max(one["high"], one["mean"] + float(margin)),
        )
        for one, margin in zip(found, margins, strict=True)
    ]


def sign_test(differences: np.ndarray, groups: Groups = None) -> float:
    """p that positive differences (images,) are no more frequent than negative ones, over groups, ties left out.

    One-sided and exact (Dixon and Mood, J. Am. Stat. Assoc. 1946): where nearly all differ in the same way, an interval
    of few groups has no width to go by. 1 where none differ.
    """
    sums, _ = _per_group(np.asarray(differences, np.float64)[None], groups)
    above, count = int((sums > 0).sum()), int((sums != 0).sum())
    return sum(comb(count, number) for number in range(above, count + 1)) / 2**count


def seed_interval(means: Sequence[float] | np.ndarray) -> Interval:
    """Over seeds alone, from one mean a seed: what another training would score on these very images.

    Student's t (Biometrika 1908). ValueError for fewer than two seeds.
    """
    values = np.asarray(means, np.float64)
    if len(values) < 2:
        raise ValueError(f"{len(values)} seed: the spread over seeds is known from two on")
    return _t_interval(values.mean(), values.var(ddof=1) / len(values), len(values) - 1, True)


def crossed_interval(runs: np.ndarray, groups: Groups = None) -> Interval:
    """Over images and seeds: what another training would score on other images. With one seed, over images alone.

    Both are random effects, crossed; readers and cases in the studies of radiologists are the same design. Variance
    V(seeds) + V(images) - V(seeds × images), each from its mean square (Obuchowski and Rockette, Commun. Stat. 1995),
    V(images) from the sums of groups (Cameron, Gelbach and Miller, J. Bus. Econ. Stat. 2011), degrees of freedom by
    Satterthwaite (Biometrics Bulletin 1946).
    """
    return _crossed([runs], groups)


def crossed_difference(ours: np.ndarray, theirs: np.ndarray, groups: Groups = None) -> Interval:
    """Mean of ours - theirs over the same images and each one's own seeds, as `crossed_interval`.

    A seed is no pair: two models that start from one number share nothing else. With a single seed of either, over
    images alone.
    """
    return _crossed([ours, theirs], groups)


def crossed_interaction(
    ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray], groups: Groups = None
) -> Interval:
    """How much more ours gains than theirs, each (with, without) a change, as `crossed_difference`.

    The contrast of a 2 × 2 table: that one gain's interval leaves 0 out and another's does not says nothing of the two
    (Gelman and Stern, The American Statistician 2006).
    """
    return _crossed([ours[0], ours[1], theirs[1], theirs[0]], groups, signs=(1, -1, 1, -1))


def compare(
    reference: np.ndarray, others: Mapping[str, np.ndarray], groups: Groups = None, higher_is_better: bool = True
) -> list[Comparison]:
    """The reference against each of the others, all (seeds, images) of the same images; Holm over all of them."""
    differences = {name: crossed_difference(reference, runs, groups) for name, runs in others.items()}
    p_values = [p_value(difference) for difference in differences.values()]
    found = []
    for (name, difference), p, adjusted in zip(differences.items(), p_values, holm(p_values), strict=True):
        each = _without_noise(np.mean(reference, 0) - np.mean(others[name], 0))
        better = float(np.mean((np.sign(each if higher_is_better else -each) + 1) / 2))
        found.append(Comparison(name, difference, p, adjusted, false_claim(difference), standardised(each), better))
    return found


def p_value(difference: Interval) -> float:
    """Two-sided, against no difference; below 0.05 exactly where the interval leaves 0 out."""
    return min(1.0, 2 * false_claim(difference))


def false_claim(difference: Interval) -> float:
    """Probability that whichever leads does not: the posterior of t around the difference, beyond 0.

    Christodoulou et al., False promises in medical imaging AI?, arXiv 2505.04720 (2025), for segmentation; here with
    the standard error over seeds as well.
    """
    from scipy import stats

    if difference.error == 0:
        return 0.5 if difference.mean == 0 else 0.0
    return float(stats.t.sf(abs(difference.mean) / difference.error, difference.freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted so that the chance of any false rejection stays below the level (Holm, Scand. J. Stat. 1979)."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate((len(values) - np.arange(len(values))) * values[order])
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(steps, 1)
    return adjusted.tolist()


def standardised(differences: np.ndarray) -> float:
    """Cohen's d of paired differences (images,), at least two: their mean in standard deviations.

    d_z in Lakens, Front. Psychol. 2013.
    """
    mean, deviation = float(np.mean(differences)), float(np.std(differences, ddof=1))
    if deviation > NOISE:
        return mean / deviation
    return 0.0 if abs(mean) <= NOISE else float(np.copysign(np.inf, mean))


def rank(
    models: Sequence[np.ndarray], resamples: int, seed: int, groups: Groups = None, higher_is_better: bool = True
) -> Ranking:
    """Models, each (its seeds, the same images), ranked by mean; equal means share the better rank.

    Mean, then rank, and its stability over bootstrap draws as challengeR (Wiesenfarth et al., Sci. Rep. 2021). Drawn
    are groups of images and, where a model has several, its seeds (Owen, The pigeonhole bootstrap, Ann. Appl. Stat.
    2007).
    """
    sums = [_per_group(np.asarray(runs, np.float64), groups) for runs in models]
    sizes = sums[0][1]
    if any(np.shape(runs)[1] != np.shape(models[0])[1] for runs in models):
        raise ValueError("ranks need scores of the same images")
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, len(models)))
    for block, drawn in _draws(rng, resamples, len(sizes)):
        weights = sizes[drawn].sum(1)
        for column, (totals, _) in enumerate(sums):
            chosen = rng.integers(len(totals), size=(len(drawn), len(totals)))
            means[block, column] = _picked(totals, chosen, drawn) / weights
    ranks = _ranks(np.array([[np.mean(runs) for runs in models]]), higher_is_better)[0]
    drawn_ranks = _ranks(means, higher_is_better)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn_ranks, [tail, 1 - tail], axis=0, method="nearest")
    shares = (drawn_ranks[:, :, None] == np.arange(1, len(models) + 1)).mean(0)
    return Ranking(ranks, low.astype(int), high.astype(int), shares, float(_kendall(ranks, drawn_ranks).mean()))


def _crossed(parts: Sequence[np.ndarray], groups: Groups, signs: Sequence[int] = (1, -1)) -> Interval:
    """Of one model's mean, or of the sum of several with these signs."""
    shapes = [np.shape(part) for part in parts]
    if len({shape[1:] for shape in shapes}) > 1:
        raise ValueError(f"runs {' and '.join(map(str, shapes))} are not scores of the same images")
    arrays = [np.asarray(part, np.float64) for part in parts]
    mean = sum(sign * array.mean() for sign, array in zip(signs, arrays, strict=False))
    each = sum(sign * array.mean(0) for sign, array in zip(signs, arrays, strict=False))
    totals, sizes = _per_group((each - mean)[None], groups)
    images, count = each.size, len(sizes)
    if count < 2:
        raise ValueError(f"{count} group of images: the spread over images is known from two on")
    correction = count / (count - 1)
    over_images = correction * float((totals**2).sum()) / images**2
    if min(map(len, arrays)) < 2:
        return _t_interval(mean, over_images, count - 1, False)
    over_seeds, both = [], []
    for array in arrays:
        seeds, rows = len(array), array.mean(1)
        over_seeds.append((float(rows.var(ddof=1)) / seeds, seeds - 1))
        rest, _ = _per_group(array - rows[:, None] - array.mean(0) + array.mean(), groups)
        shared = correction * float((rest**2).sum()) / images**2 / (seeds * (seeds - 1))
        both.append((shared, (seeds - 1) * (count - 1)))
    seeds_alone = sum(variance for variance, _ in over_seeds)
    variance = seeds_alone + over_images - sum(part for part, _ in both)
    variance = max(variance, seeds_alone, over_images)  # the estimate may fall below what it is made of; it cannot be
    terms = [*over_seeds, (over_images, count - 1), *both]
    spread = sum(term**2 / freedom for term, freedom in terms)
    return _t_interval(mean, variance, variance**2 / spread if variance and spread else count - 1, True)


def _t_interval(mean: float, variance: float, freedom: float, seeds: bool) -> Interval:
    from scipy import stats

    mean, error = _without_noise(np.array([mean, np.sqrt(variance)])).tolist()
    margin = error * float(stats.t.ppf((1 + LEVEL) / 2, freedom))
    return Interval(float(mean), float(mean) - margin, float(mean) + margin, error, float(freedom), seeds)


def _per_group(rows: np.ndarray, groups: Groups) -> tuple[np.ndarray, np.ndarray]:
    """rows (k, images) -> their sums over each group (k, groups), and the groups' sizes."""
    count = rows.shape[1]
    if not count:
        raise ValueError("no image to average over")
    if groups is None:
        return rows, np.ones(count)
    if len(groups) != count:
        raise ValueError(f"groups of {len(groups)} images, scores of {count}")
    _, codes, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(codes, weights=row, minlength=len(sizes)) for row in rows])
    return sums, sizes.astype(np.float64)


def _draws(rng: np.random.Generator, resamples: int, count: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of draws (block, count) of positions with replacement, few enough at a time to be in memory."""
    size = max(1, 4_000_000 // count)
    for start in range(0, resamples, size):
        stop = min(start + size, resamples)
        yield slice(start, stop), rng.integers(count, size=(stop - start, count))


def _picked(totals: np.ndarray, seeds: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """totals (seeds, groups), drawn seeds (r, seeds) and groups (r, groups) -> the mean seed's sum over the groups."""
    sums = np.stack([row[groups].sum(1) for row in totals], 1)
    return np.take_along_axis(sums, seeds, 1).mean(1)


def _ranks(means: np.ndarray, higher_is_better: bool) -> np.ndarray:
    from scipy import stats

    rounded = np.round(means, -int(np.log10(NOISE)))  # so that equal models are equal
    return stats.rankdata(-rounded if higher_is_better else rounded, method="min", axis=1).astype(int)


def _without_noise(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) > NOISE, values, 0.0)


def _kendall(ranks: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of ranks (m,) with each row of drawn (r, m). Where either has no order it is 1 if neither has,
    else 0."""
    first, second = np.triu_indices(len(ranks), 1)
    ours, theirs = np.sign(ranks[first] - ranks[second]), np.sign(drawn[:, first] - drawn[:, second])
    scale = np.sqrt((ours**2).sum() * (theirs**2).sum(1))
    neither = ~theirs.any(1) & (not ours.any())
    return np.where(scale > 0, (ours * theirs).sum(1) / np.maximum(scale, 1), neither)
