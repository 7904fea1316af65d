"""Intervals, differences and ranks on drawn scores whose truth is known, and against slow obvious ways."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hymunet.evaluation import statistics

TRUE = 0.8


def drawn(rng, seeds, images, over_seeds, over_images, both, group=1, over_groups=0.0):
    """Scores (seeds, images) around TRUE with these deviations, and the groups of neighbouring images."""
    codes = np.arange(images) // group
    shared = rng.normal(0, over_groups, images)[codes]
    noise = rng.normal(0, both, (seeds, images))
    runs = TRUE + rng.normal(0, over_seeds, (seeds, 1)) + rng.normal(0, over_images, images) + shared + noise
    return runs, [f"group {code}" for code in codes]


def coverage(interval, repeats, *case):
    """How often the interval holds the truth, and three standard errors of that share, where it is 0.95."""
    rng = np.random.default_rng(11)
    found = [interval(*drawn(rng, *case)) for _ in range(repeats)]
    return np.mean([one.low <= TRUE <= one.high for one in found]), 3 * np.sqrt(0.95 * 0.05 / repeats)


EXACT = {
    "seeds alone": (lambda runs, groups: statistics.seed_interval(runs.mean(1)), (3, 4, 0.02, 0.0, 0.0)),
    "images alone": (lambda runs, groups: statistics.crossed_interval(runs), (1, 40, 0.0, 0.1, 0.05)),
    "groups alone": (lambda runs, groups: statistics.crossed_interval(runs, groups), (1, 60, 0.0, 0.05, 0.0, 3, 0.1)),
}


@pytest.mark.parametrize("name", EXACT)
def test_an_interval_covers_the_truth_as_often_as_it_says(name):
    interval, case = EXACT[name]
    covered, error = coverage(interval, 1500, *case)
    assert covered == pytest.approx(0.95, abs=error)


# Satterthwaite's freedom is an approximation: exact in no case, and cautious where seeds × images is most of the noise.
CROSSED = {
    "images vary most": ((3, 60, 0.01, 0.1, 0.05), 0.93, 0.97),
    "seeds as images": ((5, 60, 0.03, 0.1, 0.05), 0.93, 0.97),
    "seeds vary most": ((5, 40, 0.05, 0.0, 0.02), 0.93, 0.97),
    "three seeds that vary": ((3, 60, 0.03, 0.1, 0.05), 0.92, 0.97),
    "no spread of seeds": ((5, 60, 0.0, 0.1, 0.05), 0.93, 0.97),
    "mostly both": ((3, 60, 0.0, 0.02, 0.1), 0.93, 1.0),
    "groups of three": ((3, 60, 0.01, 0.05, 0.05, 3, 0.1), 0.93, 0.97),
}


@pytest.mark.parametrize("name", CROSSED)
def test_the_crossed_interval_covers_the_truth_about_as_often_as_it_says(name):
    case, low, high = CROSSED[name]
    covered, error = coverage(statistics.crossed_interval, 1000, *case)
    assert low - error / 3 <= covered <= high + error / 3


def test_who_looks_at_images_alone_or_forgets_groups_covers_less():
    """What the crossed interval and the groups are for."""
    case = (3, 60, 0.03, 0.03, 0.02)
    images_alone, _ = coverage(lambda runs, _: statistics.crossed_interval(runs.mean(0)[None]), 500, *case)
    assert images_alone < 0.7
    twins = (1, 60, 0.0, 0.02, 0.0, 3, 0.1)
    assert coverage(lambda runs, _: statistics.crossed_interval(runs), 500, *twins)[0] < 0.85


def test_a_bootstrap_of_groups_covers_what_one_of_images_does_not():
    rng, covered = np.random.default_rng(5), {True: 0, False: 0}
    for repeat in range(300):
        runs, groups = drawn(rng, 1, 120, 0.0, 0.02, 0.0, 3, 0.1)
        for whole in covered:
            (found,) = statistics.bootstrap(runs.T, 300, repeat, groups if whole else None)
            covered[whole] += found["low"] <= TRUE <= found["high"]
    assert 0.89 <= covered[True] / 300 <= 0.98
    assert covered[False] / 300 < 0.85


def anova(runs):
    """Mean and variance of the mean from the mean squares of a two-way table, written out."""
    seeds, images = runs.shape
    mean = runs.mean()
    by_seed = images * sum((runs[s].mean() - mean) ** 2 for s in range(seeds)) / (seeds - 1)
    by_image = seeds * sum((runs[:, i].mean() - mean) ** 2 for i in range(images)) / (images - 1)
    rest = sum(
        (runs[s, i] - runs[s].mean() - runs[:, i].mean() + mean) ** 2 for s in range(seeds) for i in range(images)
    ) / ((seeds - 1) * (images - 1))
    freedom_of = ((by_seed, seeds - 1), (by_image, images - 1), (rest, (seeds - 1) * (images - 1)))
    total = max(by_seed + by_image - rest, by_seed, by_image)
    return mean, total / (seeds * images), total**2 / sum(square**2 / freedom for square, freedom in freedom_of)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(2, 9))
@settings(max_examples=30, deadline=None)
def test_the_crossed_interval_is_that_of_a_two_way_table(seed, seeds, images):
    runs = np.random.default_rng(seed).random((seeds, images))
    mean, variance, freedom = anova(runs)
    found = statistics.crossed_interval(runs, [str(i) for i in range(images)])
    assert (found.mean, found.error**2, found.freedom) == pytest.approx((mean, variance, freedom))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, freedom, mean, np.sqrt(variance)))
    assert found.seeds


def test_with_one_seed_each_a_difference_is_the_paired_t_test():
    rng = np.random.default_rng(3)
    ours, theirs = rng.random((1, 30)), rng.random((4, 30))
    found = statistics.crossed_difference(ours, theirs)
    expected = stats.ttest_rel(ours[0], theirs.mean(0))
    low, high = expected.confidence_interval()
    assert (found.mean, found.low, found.high) == pytest.approx((ours.mean() - theirs.mean(), low, high))
    assert statistics.p_value(found) == pytest.approx(expected.pvalue)
    assert not found.seeds, "one seed says nothing of seeds, and the interval says so"


def test_with_one_image_score_each_a_difference_is_welchs():
    """Where images do not differ, what is left are two samples of seeds."""
    rng = np.random.default_rng(4)
    ours, theirs = rng.random(4), rng.random(6)
    found = statistics.crossed_difference(np.repeat(ours[:, None], 5, 1), np.repeat(theirs[:, None], 5, 1))
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    assert found.freedom == pytest.approx(expected.df)
    assert statistics.p_value(found) == pytest.approx(expected.pvalue)


def test_a_difference_covers_the_truth_and_its_test_errs_as_often_as_it_says():
    rng, covered, repeats = np.random.default_rng(6), 0, 1000
    for _ in range(repeats):
        hardness = rng.normal(0, 0.1, 80)
        ours, theirs = (
            mean + rng.normal(0, 0.01, (n, 1)) + hardness + rng.normal(0, 0.04, (n, 80))
            for mean, n in ((0.85, 5), (0.83, 3))
        )
        found = statistics.crossed_difference(ours, theirs)
        inside = found.low <= 0.02 <= found.high
        covered += inside
        shifted = statistics.crossed_difference(ours, theirs + 0.02)
        assert inside == (statistics.p_value(shifted) >= 0.05)
    assert covered / repeats == pytest.approx(0.95, abs=0.02)


def test_what_one_gains_more_than_another_is_counted_of_four():
    """With one seed of each it is the t interval of each image's own difference of differences."""
    rng = np.random.default_rng(12)
    a, b, c, d = rng.random((4, 1, 30))
    found = statistics.crossed_interaction((a, b), (c, d))
    expected = stats.ttest_1samp((a - b - (c - d))[0], 0)
    low, high = expected.confidence_interval()
    assert (found.mean, found.low, found.high) == pytest.approx((expected.statistic * found.error, low, high))


def test_what_one_gains_more_than_another_covers_the_truth():
    rng, covered, repeats = np.random.default_rng(13), 0, 1000
    truth = (0.85 - 0.83) - (0.86 - 0.855)
    for _ in range(repeats):
        hardness = rng.normal(0, 0.1, 80)
        a, b, c, d = (
            mean + rng.normal(0, 0.01, (n, 1)) + hardness + rng.normal(0, 0.03, 80) + rng.normal(0, 0.03, (n, 80))
            for mean, n in ((0.85, 5), (0.83, 5), (0.86, 3), (0.855, 3))
        )
        found = statistics.crossed_interaction((a, b), (c, d))
        covered += found.low <= truth <= found.high
    assert covered / repeats == pytest.approx(0.95, abs=0.02)


def test_claims_are_false_as_often_as_their_probability_says():
    """Under differences that may be anything, of all claims with a probability about p, the share p is false."""
    rng, said, false = np.random.default_rng(7), [], []
    for _ in range(4000):
        truth = rng.uniform(-0.1, 0.1)
        ours = truth + rng.normal(0, 0.1, (1, 20))
        found = statistics.crossed_difference(ours, np.zeros((1, 20)))
        said.append(statistics.false_claim(found))
        false.append(np.sign(found.mean) != np.sign(truth))
    said, false = np.array(said), np.array(false)
    for low, high in itertools.pairwise([0, 0.02, 0.1, 0.25, 0.5]):
        chosen = (said >= low) & (said < high)
        error = 3 * np.sqrt(max(said[chosen].mean(), 1e-3) / chosen.sum())
        assert false[chosen].mean() == pytest.approx(said[chosen].mean(), abs=error), (low, high)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.3], [0.3]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # Holm's own scheme: 4·0.005, 3·0.01, 2·0.03, then 0.06
        ([0.5, 0.5, 0.9], [1.0, 1.0, 1.0]),
    ],
)
def test_holm(p_values, adjusted):
    assert statistics.holm(p_values) == pytest.approx(adjusted)


def test_holm_keeps_the_chance_of_any_false_rejection():
    rng = np.random.default_rng(8)
    wrong = [min(statistics.holm([0.0001, *rng.random(5)])[1:]) < 0.05 for _ in range(2000)]
    assert np.mean(wrong) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_a_comparison_says_how_much_and_how_sure():
    rng = np.random.default_rng(9)
    hardness = rng.normal(0, 0.1, 100)
    runs = {
        name: mean + hardness + rng.normal(0, 0.02, (3, 100)) for name, mean in (("a", 0.9), ("b", 0.85), ("c", 0.9))
    }
    b, c = statistics.compare(runs["a"], {"b": runs["b"], "c": runs["c"]})
    assert (b.name, c.name) == ("b", "c")
    assert b.difference.mean == pytest.approx(0.05, abs=0.01)
    assert b.p_holm == pytest.approx(2 * b.p)
    assert b.p_holm < 1e-6
    assert b.false_claim < 1e-6
    assert b.effect == pytest.approx(0.05 / (0.02 * np.sqrt(2 / 3)), rel=0.3)
    assert b.better > 0.95
    assert c.p_holm > 0.05
    assert abs(c.effect) < 0.3
    flipped = statistics.compare(runs["a"], {"b": runs["b"]}, higher_is_better=False)[0]
    assert flipped.better == pytest.approx(1 - b.better)
    assert flipped.difference == b.difference


@pytest.mark.parametrize(
    ("differences", "expected"),
    [([0.0, 0.0], 0.0), ([0.1, 0.1], np.inf), ([-0.1, -0.1], -np.inf), ([0.0, 2.0], 2**-0.5)],
)
def test_effect_size(differences, expected):
    assert statistics.standardised(np.array(differences)) == pytest.approx(expected)


@pytest.mark.parametrize("groups", [None, ["a", "a", "b", "c", "d", "d"]])
@pytest.mark.parametrize("seeds", [1, 2, 5])
@pytest.mark.parametrize("score", ["0", "1/3", "drawn"])
def test_the_interval_of_models_that_score_alike_is_one_point(score, seeds, groups):
    one = {"0": np.zeros(6), "1/3": np.full(6, 1 / 3), "drawn": np.random.default_rng(1).random(6)}[score]
    found = statistics.crossed_difference(np.stack([one] * seeds), np.stack([one] * seeds), groups)
    assert (found.mean, found.low, found.high, found.error) == (0, 0, 0, 0)
    assert found.freedom > 0
    assert statistics.p_value(found) == 1


def test_equal_models_do_not_differ():
    runs = np.random.default_rng(10).random((3, 20))
    (one,) = statistics.compare(runs[:1], {"twin": runs[:1]})
    assert (one.p, one.false_claim, one.effect, one.better) == (1.0, 0.5, 0.0, 0.5)


def slowly_ranked(models, resamples, seed, groups, higher):
    """The same draws, one at a time, images laid out one by one."""
    rng = np.random.default_rng(seed)
    names = sorted(set(groups))
    drawn = rng.integers(len(names), size=(resamples, len(names)))
    chosen = [rng.integers(len(runs), size=(resamples, len(runs))) for runs in models]
    ranks = []
    for r in range(resamples):
        images = [i for g in drawn[r] for i in range(len(groups)) if groups[i] == names[g]]
        means = [runs[picks[r]][:, images].mean() for runs, picks in zip(models, chosen, strict=True)]
        ranks.append([1 + sum((m > mean + 1e-12) if higher else (m < mean - 1e-12) for m in means) for mean in means])
    return np.array(ranks)


@pytest.mark.parametrize("higher", [True, False])
def test_ranks_are_those_of_draws_taken_one_by_one(higher):
    rng = np.random.default_rng(12)
    groups = ["a", "b", "b", "c", "d", "d", "d", "e"]
    hardness = rng.random(8)
    models = [hardness + 0.05 * m + rng.normal(0, 0.1, (1 + m, 8)) for m in range(4)]
    found = statistics.rank(models, 200, 1, groups, higher)
    expected = slowly_ranked(models, 200, 1, groups, higher)
    shares = np.array([[(expected[:, m] == r).mean() for r in range(1, 5)] for m in range(4)])
    np.testing.assert_allclose(found.shares, shares)
    taus = [stats.kendalltau(found.ranks, row).statistic for row in expected]
    assert found.tau == pytest.approx(np.mean(taus))
    means = [runs.mean() for runs in models]
    assert found.ranks.tolist() == [1 + sum(m > mean if higher else m < mean for m in means) for mean in means]


def test_ranks_far_apart_are_stable_and_equal_ones_are_shared():
    rng = np.random.default_rng(13)
    hardness = rng.normal(0, 0.1, 100)
    far = [hardness + mean for mean in (0.5, 0.9, 0.7)]
    found = statistics.rank([runs[None] for runs in far], 300, 0)
    assert found.ranks.tolist() == found.low.tolist() == found.high.tolist() == [3, 1, 2]
    assert found.tau == 1
    twins = statistics.rank([hardness[None], hardness[None], hardness[None] - 1], 300, 0)
    assert twins.ranks.tolist() == [1, 1, 3]
    assert twins.tau == 1


@pytest.mark.parametrize("groups", [None, [f"g{index // 3}" for index in range(50)]])
@pytest.mark.parametrize("seeds", [(3, 5, 1), (2, 7, 6), (1, 1, 1)])
def test_equal_models_of_other_numbers_of_seeds_are_equal(seeds, groups):
    """A sum of three and one of five differ in the last bit, which told them apart in rank, share and sign."""
    for trial in range(20):
        scores = np.random.default_rng(trial).uniform(0.3, 0.97, 50)
        models = [np.tile(scores, (count, 1)) for count in seeds]
        found = statistics.rank(models, 100, 0, groups)
        assert (found.ranks.tolist(), found.tau) == ([1, 1, 1], 1)
        for one in statistics.compare(models[0], dict(enumerate(models[1:])), groups):
            assert (one.difference.mean, one.p, one.false_claim, one.effect, one.better) == (0, 1, 0.5, 0, 0.5)


@pytest.mark.parametrize(
    ("models", "tau"),
    {
        "equal on each image": ([[0.1, 0.9, 0.5], [0.1, 0.9, 0.5]], 1),
        "equal in the mean alone": ([[0.1, 0.9, 0.5], [0.9, 0.1, 0.5]], None),  # 1 was told, and the order changes
        "a constant apart": ([[0.1, 0.9, 0.5], [0.2, 1.0, 0.6]], 1),
        "one of them alone": ([[0.1, 0.9, 0.5]], 1),
    }.values(),
)
def test_tau_is_1_where_the_order_never_changes_and_there_alone(models, tau):
    found = statistics.rank([np.array([scores]) for scores in models], 1000, 0)
    assert found.tau == tau if tau else found.tau < 0.5


def test_the_leader_among_equals_is_known_to_be_anyone():
    rng = np.random.default_rng(14)
    found = statistics.rank([rng.normal(0.8, 0.1, (3, 200)) for _ in range(4)], 500, 0)
    assert found.tau < 0.7
    assert (found.high - found.low).max() >= 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.seed_interval([0.8]), "1 seed: the spread over seeds is known from two on"),
        (lambda: statistics.crossed_interval(np.ones((2, 3)), ["a", "a", "a"]), "1 group of images"),
        (lambda: statistics.crossed_interval(np.ones((2, 3)), ["a"]), "groups of 1 images, scores of 3"),
        (lambda: statistics.crossed_difference(np.ones((2, 3)), np.ones((2, 4))), "not scores of the same images"),
        (
            lambda: statistics.crossed_interaction((np.ones((2, 3)),) * 2, (np.ones((2, 3)), np.ones((2, 4)))),
            "not scores of the same images",
        ),
        (lambda: statistics.bootstrap(np.ones((0, 1)), 100, 0), "no image"),
        (lambda: statistics.rank([np.ones((1, 3)), np.ones((1, 4))], 100, 0), "scores of the same images"),
    ],
)
def test_what_cannot_be_said_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_same_scores_give_the_same_figures():
    rng = np.random.default_rng(15)
    runs, groups = drawn(rng, 3, 40, 0.01, 0.1, 0.05, 2, 0.05)
    assert statistics.crossed_interval(runs, groups) == statistics.crossed_interval(runs, groups)
    order = rng.permutation(40)
    shuffled = statistics.crossed_interval(runs[:, order], [groups[i] for i in order])
    assert shuffled.error == pytest.approx(statistics.crossed_interval(runs, groups).error)
    first, again = (statistics.rank([runs, runs + 0.01], 100, 3, groups) for _ in range(2))
    assert np.array_equal(first.shares, again.shares)
    assert first.tau == again.tau
