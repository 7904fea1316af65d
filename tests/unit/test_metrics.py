"""The metrics against MONAI, against scipy with every distance spelled out, and against the rule for empty masks."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial.distance import cdist

from hymunet import metrics

SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 24))


@st.composite
def mask_pairs(draw):
    """Noise of any density, and smooth blobs, which is what lesions look like; empty and full masks among them."""
    shape = draw(SHAPES)
    if draw(st.booleans()):
        return tuple(draw(hnp.arrays(bool, shape)) for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    fields = [ndimage.gaussian_filter(rng.standard_normal(shape), draw(st.floats(0.5, 4))) for _ in range(2)]
    return tuple(field > np.quantile(field, draw(st.floats(0, 1))) for field in fields)


def spelled_out(prediction, truth):
    """HD95 by every pairwise distance between the scipy contours."""

    def contour(mask):
        return np.argwhere(mask & ~ndimage.binary_erosion(mask))

    distances = cdist(contour(prediction), contour(truth))
    return max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))


@given(mask_pairs())
@settings(max_examples=300, deadline=None)
@example((np.ones((5, 7), bool), np.eye(5, 7, dtype=bool)))
@example((np.ones((1, 1), bool), np.ones((1, 1), bool)))
def test_scores_equal_the_definitions_spelled_out(pair):
    prediction, truth = pair
    scores = metrics.image_scores(prediction.astype(np.uint8), truth.astype(np.uint8))
    both, either = (prediction & truth).sum(), (prediction | truth).sum()
    assert scores["true_positive"] == both
    assert scores["false_positive"] == (prediction & ~truth).sum()
    assert scores["false_negative"] == (truth & ~prediction).sum()
    assert scores["iou"] == pytest.approx(both / either if either else 1)
    assert scores["dice"] == pytest.approx(2 * both / (prediction.sum() + truth.sum()) if either else 1)
    assert scores["precision"] == pytest.approx(both / prediction.sum() if prediction.any() else float(not truth.any()))
    diagonal = np.hypot(*truth.shape)
    if prediction.any() and truth.any():
        assert scores["hd95"] == pytest.approx(spelled_out(prediction, truth), abs=1e-5)
    else:
        assert scores["hd95"] == pytest.approx(diagonal if either else 0)
    assert scores["hd95_fraction"] == pytest.approx(scores["hd95"] / diagonal)
    assert 0 <= scores["hd95_fraction"] <= 1


def test_hd95_and_dice_agree_with_monai_on_every_non_empty_pair():
    pytest.importorskip("monai", reason="MONAI is a development extra: pip install hymunet[dev]")
    from monai.metrics import compute_dice, compute_hausdorff_distance

    rng = np.random.default_rng(0)
    fields = ndimage.gaussian_filter(rng.standard_normal((40, 2, 64, 48)), (0, 0, 4, 4))
    fields[20:] = rng.standard_normal((20, 2, 64, 48))
    masks = fields / fields.std((2, 3), keepdims=True) > rng.uniform(-1, 2, (40, 2, 1, 1))
    masks[0, 0], masks[1, 1], masks[2], masks[3, 0] = True, True, masks[2, :1], np.eye(64, 48, dtype=bool)
    predictions, truths = (torch.from_numpy(masks[:, side])[:, None] for side in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = compute_hausdorff_distance(predictions, truths, include_background=True, percentile=95).ravel()
        dice = compute_dice(predictions, truths).ravel()
    compared = 0
    for index, (prediction, truth) in enumerate(masks):
        if prediction.any() and truth.any():
            scores = metrics.image_scores(prediction, truth)
            assert scores["hd95"] == pytest.approx(theirs[index].item(), abs=1e-4)
            assert scores["dice"] == pytest.approx(dice[index].item(), abs=1e-6)
            compared += 1
    assert compared >= 35


def test_a_missed_lesion_costs_the_most_that_an_error_can():
    empty, lesion = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    lesion[4:9, 3:8] = True
    missed, invented = metrics.image_scores(empty, lesion), metrics.image_scores(lesion, empty)
    for scores in (missed, invented):
        assert {scores[name] for name in ("dice", "iou", "precision")} == {0.0}
        assert (scores["hd95"], scores["hd95_fraction"]) == (50.0, 1.0)
    nothing = metrics.image_scores(empty, empty)
    assert [nothing[name] for name in metrics.SCORES] == [1, 1, 1, 0, 0]


@given(mask_pairs())
@settings(max_examples=50, deadline=None)
def test_distance_is_symmetric_and_zero_for_equal_masks(pair):
    assert metrics.hausdorff95(*pair) == metrics.hausdorff95(*pair[::-1])
    assert metrics.hausdorff95(pair[0], pair[0]) == 0


def test_pooled_scores_count_all_pixels_as_one_image():
    rng = np.random.default_rng(1)
    masks = rng.random((2, 7, 20, 20)) > 0.7
    masks[:, 3] = False
    rows = [metrics.image_scores(p, t) for p, t in zip(*masks, strict=True)]
    tiled = metrics.image_scores(*(mask.reshape(-1, 20) for mask in masks))
    pooled = metrics.pooled_scores(rows)
    assert pooled == {name: tiled[name] for name in ("dice", "iou", "precision")}
    assert pooled["dice"] != pytest.approx(np.mean([row["dice"] for row in rows]))
    with pytest.raises(ValueError, match="no image to score"):
        metrics.pooled_scores([])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32])
def test_dice_from_counts_equals_the_scores_of_the_masks(dtype):
    rng = np.random.default_rng(2)
    prediction, truth = rng.random((2, 6, 16, 16)) > 0.6
    prediction[0] = truth[0] = prediction[1] = truth[2] = False
    counts = [torch.from_numpy(m.sum((1, 2))).to(dtype) for m in (prediction & truth, prediction, truth)]
    dice = metrics.dice_from_counts(*counts)
    expected = [metrics.image_scores(p, t)["dice"] for p, t in zip(prediction, truth, strict=True)]
    assert dice.dtype == torch.float32
    assert dice.tolist() == pytest.approx(expected, abs=1e-6)
    assert dice[:3].tolist() == [1, 0, 0]


def test_large_images_are_exact_too():
    """Distances of hundreds of pixels, as on full-size dermoscopy: no chamfer approximation anywhere."""
    prediction, truth = np.zeros((2, 700, 900), bool)
    prediction[10, 15], truth[680, 870] = True, True
    assert metrics.hausdorff95(prediction, truth) == np.hypot(670, 855)
