"""The bootstrap and the choice of threshold, against closed forms and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hymunet.evaluation.measure import image_scores
from hymunet.evaluation.statistics import FEW, bootstrap, differences, paired_difference, sign_test
from hymunet.evaluation.threshold import CANDIDATES, best_threshold
from hymunet.masks import cut


def test_interval_is_the_normal_one_for_a_large_sample():
    values = np.random.default_rng(0).normal(0.8, 0.1, (2000, 1))
    (estimate,) = bootstrap(values, 20_000, seed=1)
    margin = 1.96 * values.std(ddof=0) / np.sqrt(len(values))
    assert estimate["mean"] == pytest.approx(values.mean())
    assert estimate["low"] == pytest.approx(values.mean() - margin, abs=2e-4)
    assert estimate["high"] == pytest.approx(values.mean() + margin, abs=2e-4)


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for repeat in range(300):
        (estimate,) = bootstrap(rng.beta(8, 2, (60, 1)), 400, seed=repeat)
        covered += estimate["low"] <= 0.8 <= estimate["high"]
    assert 0.90 <= covered / 300 <= 0.98


def test_estimates_depend_on_the_seed_and_on_nothing_else():
    values = np.random.default_rng(3).random((50, 2))
    first, again, other = (bootstrap(values, 500, seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert bootstrap(values[:, :1], 500, 7)[0] == pytest.approx(first[0])


def test_one_image_and_equal_images_have_no_spread():
    assert bootstrap(np.full((1, 1), 0.3), 100, 0) == [{"mean": 0.3, "low": 0.3, "high": 0.3}]
    (estimate,) = bootstrap(np.full((9, 1), 0.5), 100, 0)
    assert estimate["low"] == estimate["high"] == 0.5


def test_a_paired_difference_is_surer_than_the_two_means():
    rng = np.random.default_rng(4)
    hardness = rng.random(200)
    ours, theirs = hardness + 0.01 + rng.normal(0, 0.01, 200), hardness
    difference = paired_difference(ours, theirs, 2000, 0)
    assert 0 < difference["low"] < 0.01 < difference["high"] < 0.02
    separate = bootstrap(np.stack([ours, theirs], 1), 2000, 0)
    assert separate[0]["low"] < separate[1]["high"]


BY_DRAWS = {2: 1 / 2, 5: 1 / 6}  # groups -> share of trials, as docs/statistics.md says


@pytest.mark.parametrize("count", [2, 3, 5, 10, 29])
@pytest.mark.parametrize("in_group", [1, 3])
def test_equal_models_on_few_groups_seldom_seem_to_differ(count, in_group):
    """By the bootstrap alone they did in half of the trials of two groups, in a sixth of those of five."""
    rng, trials = np.random.default_rng(count), 400
    groups = [f"g{index // in_group}" for index in range(count * in_group)]
    by_both = by_draws = 0
    for trial in range(trials):
        gain = np.repeat(rng.normal(0, 0.05, count), in_group) + rng.normal(0, 0.01, count * in_group)
        found, drawn = (
            paired_difference(gain, 0 * gain, 400, trial, groups),
            bootstrap(gain[:, None], 400, trial, groups),
        )
        by_both += not found["low"] <= 0 <= found["high"]
        by_draws += not drawn[0]["low"] <= 0 <= drawn[0]["high"]
    assert by_both / trials <= 0.08
    if count in BY_DRAWS:
        assert by_draws / trials == pytest.approx(BY_DRAWS[count], abs=0.06)


def test_of_many_groups_the_interval_of_a_difference_is_the_bootstrap_s():
    values = np.random.default_rng(5).normal(0, 1, (FEW, 2))
    assert differences(values, 500, 0) == bootstrap(values, 500, 0)
    few, draws = differences(values[1:], 500, 0), bootstrap(values[1:], 500, 0)
    t = stats.t.interval(0.95, FEW - 2, values[1:].mean(0), stats.sem(values[1:]))
    for column, (found, drawn) in enumerate(zip(few, draws, strict=True)):
        assert found["mean"] == drawn["mean"]
        assert found["low"] == pytest.approx(min(drawn["low"], t[0][column]))
        assert found["high"] == pytest.approx(max(drawn["high"], t[1][column]))


@pytest.mark.parametrize(
    ("gains", "groups"),
    [
        ([1], None),
        ([1, 1], None),
        ([1] * 6, None),
        ([1] * 9 + [-1], None),
        ([0, 0], None),
        ([1, 0, -1, 1], None),
        ([1] * 6, list("aabbcc")),
        ([1, -1, 1], list("aab")),
    ],
)
def test_the_sign_test_is_the_binomial_one_over_groups(gains, groups):
    names = groups or list(range(len(gains)))
    sums = [sum(gain for gain, of in zip(gains, names, strict=True) if of == name) for name in dict.fromkeys(names)]
    above, of = sum(one > 0 for one in sums), sum(one != 0 for one in sums)
    wanted = stats.binomtest(above, of, alternative="greater").pvalue if of else 1.0
    assert sign_test(np.array(gains), groups) == pytest.approx(wanted)


def spelled_out(probabilities, masks, largest):
    scores = [
        np.mean([image_scores(cut(p, c, largest), m)["dice"] for p, m in zip(probabilities, masks, strict=True)])
        for c in CANDIDATES
    ]
    best = np.flatnonzero(np.array(scores) >= max(scores) - 1e-9)
    return CANDIDATES[best[np.argmin(np.abs(CANDIDATES[best] - 0.5))]]


@pytest.mark.parametrize("largest", [False, True])
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_best_threshold_equals_the_best_of_every_candidate_tried(largest, seed):
    rng = np.random.default_rng(seed)
    masks = (rng.random((4, 6, 5)) < rng.uniform(0, 0.7)).astype(np.uint8)
    levels = np.round(rng.random(masks.shape), 2)  # many of them lie exactly on a candidate
    probabilities = np.clip(levels * 0.6 + 0.3 * masks, 0, 1).astype(np.float32)
    found = best_threshold(zip(probabilities, masks, strict=True), largest)
    assert found == pytest.approx(spelled_out(probabilities, masks, largest))


def test_best_threshold_is_one_half_when_every_candidate_is_as_good():
    masks = np.eye(6, dtype=np.uint8)[None]
    assert best_threshold(zip(masks.astype(np.float32), masks, strict=True)) == 0.5
