"""Calibration and confidence against the definitions on all pixels at once, and against known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from hymunet.evaluation import calibration
from hymunet.evaluation.calibration import Histogram, band, best_temperature, histogram, summary
from hymunet.evaluation.confidence import selective, sentence, soft_dice, suspicious


def drawn(seed, count=20_000, temperature=1.0):
    """Probabilities, and truths that come true with them once their logits are divided by the temperature."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1, 3, count)
    truth = rng.random(count) < 1 / (1 + np.exp(-logit / temperature))
    return (1 / (1 + np.exp(-logit))).astype(np.float32), truth.astype(np.uint8)


def error_in_groups(p, t, groups):
    return sum(len(group) * abs(p[group].mean() - t[group].mean()) for group in groups if len(group)) / len(p)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_errors_equal_those_of_all_pixels_at_once(seed):
    p, t = drawn(seed, 3_000, temperature=2.0)
    found = Histogram()
    for part in np.array_split(np.arange(len(p)), 7):
        found.add(histogram(p[part], t[part]))
    got, wide = summary(found), p.astype(np.float64)
    bins = [np.flatnonzero(np.minimum((p * 15).astype(int), 14) == bin) for bin in range(15)]
    assert got["ece"] == pytest.approx(error_in_groups(wide, t, bins), abs=1e-9)
    assert got["brier"] == pytest.approx(np.mean((wide - t) ** 2), abs=1e-7)
    assert got["adaptive_ece"] == pytest.approx(
        error_in_groups(wide, t, np.array_split(np.argsort(wide), 15)), abs=3e-3
    )
    assert got["pixels"] == len(p) == sum(point["pixels"] for point in got["reliability"])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.8, 4.0])
def test_the_temperature_that_was_put_in_comes_out(temperature):
    p, t = drawn(0, 200_000, temperature)
    assert best_temperature(histogram(p, t)) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_is_the_least_log_loss_of_the_pixels_themselves():
    p, t = drawn(1, temperature=1.7)
    logit = np.log(p.astype(np.float64)) - np.log1p(-p.astype(np.float64))
    loss = lambda T: np.mean(np.logaddexp(0, np.where(t, -1, 1) * logit / T))  # noqa: E731
    assert best_temperature(histogram(p, t)) == pytest.approx(minimize_scalar(loss, (1, 2)).x, abs=2e-3)


def test_a_temperature_lowers_the_calibration_error():
    p, t = drawn(2, 100_000, temperature=2.5)
    logit = np.log(p) - np.log1p(-p)
    tempered = (1 / (1 + np.exp(-logit / best_temperature(histogram(p, t))))).astype(np.float32)
    assert summary(histogram(tempered, t))["ece"] < 0.1 * summary(histogram(p, t))["ece"]


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_probabilities_of_exactly_0_and_1_are_counted(p):
    found = summary(histogram(np.full((3, 4), p, np.float32), np.ones((3, 4), np.uint8)))
    assert found["ece"] == found["brier"] == 1 - p
    assert found["adaptive_ece"] == pytest.approx(1 - p, abs=1e-6)


def test_no_pixel_is_refused():
    for work in (summary, best_temperature):
        with pytest.raises(ValueError, match="no pixel"):
            work(Histogram())


def test_the_band_is_the_lesion_and_a_twentieth_of_the_side_around_it():
    truth = np.zeros((40, 40), np.uint8)
    truth[20, 20] = 1
    assert np.argwhere(band(truth)).min(0).tolist() == [18, 18]
    assert band(truth).sum() == 25
    assert not band(np.zeros((40, 40), np.uint8)).any()


@pytest.mark.parametrize(
    ("probability", "mask", "expected"),
    [
        ([[1, 1], [0, 0]], [[1, 1], [0, 0]], 1),  # sure
        ([[0.6, 0.6], [0.4, 0.4]], [[1, 1], [0, 0]], 2 * 1.2 / (2 + 2)),
        ([[0.4, 0.4], [0, 0]], [[0, 0], [0, 0]], 0),  # nothing found
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]], 0),
        ([[0.5, 1], [1, 0]], [[0, 1], [1, 0]], 2 * 2 / (2 + 2.5)),
    ],
)
def test_soft_dice_by_hand(probability, mask, expected):
    assert soft_dice(np.array(probability, np.float32), np.array(mask)) == pytest.approx(expected)


def test_selective_by_hand():
    found = selective([0.9, 0.8, 0.7, 0.6], [1.0, 0.8, 0.9, 0.1], [1.0, 0.7, 0.8, 0.05])
    assert [point["risk"] for point in found["curve"]] == pytest.approx([0, 0.1, 0.1, 0.3])
    assert found["aurc"] == pytest.approx((0 + 0.1 + 0.1 + 0.3) / 4)
    assert found["aurc_best"] == pytest.approx((0 + 0.05 + 0.1 + 0.3) / 4)
    assert found["aurc_random"] == pytest.approx(0.3)
    assert found["sent"] == {"images": 1, "dice_of_rest": pytest.approx(0.9), "failures": 1, "failures_sent": 1}
    assert "Dice on the rest is 0.9000 instead of 0.7000; 1 of 1 failure (" in sentence(found, 0.7)


def test_images_of_equal_confidence_have_no_order():
    dice, iou = np.linspace(0, 1, 20), np.linspace(0, 1, 20)
    one = selective([0.5] * 20, dice, iou)
    other = selective([0.5] * 20, dice[::-1], iou[::-1])
    assert one["sent"] == pytest.approx(other["sent"])
    assert one["aurc"] == pytest.approx(other["aurc"])
    assert one["aurc"] == pytest.approx(one["aurc_random"])
    assert one["sent"]["failures_sent"] == pytest.approx(0.1 * one["sent"]["failures"])


@pytest.mark.parametrize("count", [1, 2, 9, 11])
def test_few_images_are_no_error(count):
    found = selective([0.5] * count, [0.9] * count, [0.8] * count)
    assert found["sent"]["images"] == -(-count // 10)
    assert sentence(found, 0.9)


def test_an_order_by_dice_itself_is_the_best_there_is():
    dice = np.random.default_rng(0).random(50)
    found = selective(dice, dice, dice)
    assert found["aurc"] == pytest.approx(found["aurc_best"])
    assert selective(-dice, dice, dice)["aurc"] > found["aurc_random"] > found["aurc_best"]


def test_cells_are_narrower_than_what_is_read_off_them():
    assert 2 * calibration.LIMIT / calibration.CELLS < 0.01


def test_a_mask_is_suspicious_where_a_sure_model_contradicts_it():
    keys = ("id", "confidence", "dice")
    rows = [
        dict(zip(keys, one, strict=True)) for one in (("a", 0.9, 0.5), ("b", 0.9, 0.2), ("c", 0.3, 0), ("d", 0.9, 0.9))
    ]
    for row in rows:
        more = {"suspicion": max(0.0, row["confidence"] - row["dice"]), "area_error": 0.2}
        row |= more | {"missed_lesions": 0, "wrong_objects": 0, "hd95": 3}
    found = suspicious(rows)
    assert [one["id"] for one in found] == ["b", "a"], "one that is as unsure as it is wrong (c) is no accusation"
    assert found[0] == {key: value for key, value in rows[1].items() if key != "hd95"}
