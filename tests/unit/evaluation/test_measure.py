"""Every score of an image against other ways to the same number: by hand, spelled out, scipy's transform, MONAI."""

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
from hymunet.evaluation import contours
from hymunet.evaluation.measure import image_scores

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


def rim(mask, width):
    """The mask less `width` erosions by 3×3, as the paper on boundary IoU words it."""
    return mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), width) if width else mask


def spelled_out(prediction, truth):
    """Every pairwise distance, every object by itself; both masks hold a lesion."""
    both, either = prediction & truth, prediction | truth
    edges = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) for mask in (prediction, truth)]
    table = cdist(*edges)
    directed = table.min(1), table.min(0)
    together = np.concatenate(directed)
    diagonal = np.hypot(*truth.shape)
    width = max(1, round(0.02 * diagonal))
    rims = [rim(mask, width) for mask in (prediction, truth)]
    iou = both.sum() / either.sum()

    def untouched(objects, others):
        labels, count = ndimage.label(objects, np.ones((3, 3)))
        return sum(not others[labels == number].any() for number in range(1, count + 1))

    return {
        "dice": 2 * both.sum() / (prediction.sum() + truth.sum()),
        "iou": iou,
        "precision": both.sum() / prediction.sum(),
        "sensitivity": both.sum() / truth.sum(),
        "specificity": (~either).sum() / (~truth).sum() if (~truth).any() else 1,
        "accuracy": (prediction == truth).mean(),
        "iou_at_65": iou if iou >= 0.65 else 0,
        "hd95": max(np.percentile(one, 95) for one in directed),
        "hd95_fraction": max(np.percentile(one, 95) for one in directed) / diagonal,
        "assd": together.mean(),
        "nsd_1px": np.mean(together <= 1),
        "nsd_2px": np.mean(together <= 2),
        "nsd_1pct": np.mean(together <= 0.01 * diagonal),
        "nsd_2pct": np.mean(together <= 0.02 * diagonal),
        "boundary_iou": (rims[0] & rims[1]).sum() / (rims[0] | rims[1]).sum(),
        "missed_lesions": untouched(truth, prediction),
        "wrong_objects": untouched(prediction, truth),
        "area_error": (prediction.sum() - truth.sum()) / truth.sum(),
    }


@given(mask_pairs())
@settings(max_examples=300, deadline=None)
@example((np.ones((5, 7), bool), np.eye(5, 7, dtype=bool)))
@example((np.ones((1, 1), bool), np.ones((1, 1), bool)))
def test_scores_equal_the_definitions_spelled_out(pair):
    prediction, truth = pair
    scores = image_scores(prediction.astype(np.uint8) * 255, truth)
    assert scores["true_positive"] == (prediction & truth).sum()
    assert scores["false_positive"] == (prediction & ~truth).sum()
    assert scores["false_negative"] == (truth & ~prediction).sum()
    assert scores["true_negative"] == (~truth & ~prediction).sum()
    assert list(scores) == [*metrics.SCORES, *metrics.COUNTS]
    if prediction.any() and truth.any():
        assert {name: scores[name] for name in metrics.SCORES} == pytest.approx(
            spelled_out(prediction, truth), abs=1e-12
        )


EMPTY, FULL, BLOB = np.zeros((30, 40), bool), np.ones((30, 40), bool), np.zeros((30, 40), bool)
BLOB[4:9, 3:8] = BLOB[20:25, 3:8] = True
PERFECT = {name: float(not name.startswith(("hd", "assd", "missed", "wrong", "area"))) for name in metrics.SCORES}
WORST = dict.fromkeys((*metrics.OVERLAPS, *metrics.SURFACES), 0.0) | {"hd95": 50, "hd95_fraction": 1, "assd": 50}


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        pytest.param(EMPTY, EMPTY, PERFECT, id="nothing to find, nothing found"),
        pytest.param(FULL, FULL, PERFECT, id="all of it found"),
        pytest.param(BLOB, BLOB, PERFECT, id="the same"),
        pytest.param(
            EMPTY,
            BLOB,
            WORST
            | {"specificity": 1, "accuracy": 1150 / 1200, "missed_lesions": 2, "wrong_objects": 0, "area_error": -1},
            id="a missed lesion costs the most that an error can",
        ),
        pytest.param(
            BLOB,
            EMPTY,
            WORST
            | {"sensitivity": 1, "specificity": 1150 / 1200, "accuracy": 1150 / 1200}
            | {"missed_lesions": 0, "wrong_objects": 2, "area_error": 1},
            id="an invented one too",
        ),
        pytest.param(
            FULL,
            EMPTY,
            WORST | {"sensitivity": 1, "missed_lesions": 0, "wrong_objects": 1, "area_error": 1},
            id="all wrong",
        ),
    ],
)
def test_what_empty_and_full_masks_score(prediction, truth, expected):
    scores = image_scores(prediction, truth)
    assert {name: scores[name] for name in metrics.SCORES} == pytest.approx(expected)


# ISIC 2018 Task 1, as its scorer publishes the rules: per image accuracy, sensitivity (1 where nothing is lesion),
# specificity (1 where all is), Jaccard, Jaccard or 0 below 0.65, Dice (both 1 where nothing is lesion in either).
# The masks are rows of pixels; the expected numbers were worked out by hand.
OFFICIAL = [
    # prediction, truth: accuracy, sensitivity, specificity, jaccard, thresholded, dice
    ("0000", "0000", 1, 1, 1, 1, 1, 1),
    ("1111", "1111", 1, 1, 1, 1, 1, 1),
    ("0000", "1111", 0, 0, 1, 0, 0, 0),
    ("1111", "0000", 0, 1, 0, 0, 0, 0),
    ("1000", "0000", 3 / 4, 1, 3 / 4, 0, 0, 0),
    ("0000", "1000", 3 / 4, 0, 1, 0, 0, 0),
    ("1000", "1000", 1, 1, 1, 1, 1, 1),
    ("1000", "0100", 1 / 2, 0, 2 / 3, 0, 0, 0),
    ("1100", "1000", 3 / 4, 1, 2 / 3, 1 / 2, 0, 2 / 3),
    ("1000", "1100", 3 / 4, 1 / 2, 1, 1 / 2, 0, 2 / 3),
    ("1110", "1100", 3 / 4, 1, 1 / 2, 2 / 3, 2 / 3, 4 / 5),
    ("1100", "1110", 3 / 4, 2 / 3, 1, 2 / 3, 2 / 3, 4 / 5),
    ("0111", "1110", 1 / 2, 2 / 3, 0, 1 / 2, 0, 2 / 3),
    ("1111", "1110", 3 / 4, 1, 0, 3 / 4, 3 / 4, 6 / 7),
    ("1110", "1111", 3 / 4, 3 / 4, 1, 3 / 4, 3 / 4, 6 / 7),
    ("0111", "1111", 3 / 4, 3 / 4, 1, 3 / 4, 3 / 4, 6 / 7),
    ("0001", "1110", 0, 0, 0, 0, 0, 0),
    ("11110000", "11111000", 7 / 8, 4 / 5, 1, 4 / 5, 4 / 5, 8 / 9),
    ("11100000", "11111000", 6 / 8, 3 / 5, 1, 3 / 5, 0, 6 / 8),
    ("11111110", "11111000", 6 / 8, 1, 1 / 3, 5 / 7, 5 / 7, 10 / 12),
    ("00011111", "11111000", 2 / 8, 2 / 5, 0, 2 / 8, 0, 4 / 10),
    ("1" * 13 + "0" * 7, "1" * 20, 13 / 20, 13 / 20, 1, 13 / 20, 13 / 20, 26 / 33),  # exactly 0.65 counts
    ("1" * 129 + "0" * 71, "1" * 199 + "0", 130 / 200, 129 / 199, 1, 129 / 199, 0, 258 / 328),  # 0.648
    ("1" * 130 + "0" * 70, "1" * 199 + "0", 131 / 200, 130 / 199, 1, 130 / 199, 130 / 199, 260 / 329),  # 0.653
]


@pytest.mark.parametrize("case", OFFICIAL, ids=lambda case: f"{case[0][:20]} against {case[1][:20]}")
def test_the_rules_of_the_official_scorer(case):
    prediction, truth = (np.array([[pixel == "1" for pixel in row]]) for row in case[:2])
    scores = image_scores(prediction, truth)
    names = ("accuracy", "sensitivity", "specificity", "iou", "iou_at_65", "dice")
    assert [scores[name] for name in names] == pytest.approx(case[2:], abs=1e-12)


def drawn(kind, count=12, shape=(64, 48)):
    """Pairs of one kind, none empty."""
    rng = np.random.default_rng(len(kind))
    fields = rng.standard_normal((count, 2, *shape))
    smooth = ndimage.gaussian_filter(fields, (0, 0, 4, 4))
    smooth /= smooth.std((2, 3), keepdims=True)
    masks = {"noise": fields > 0.5, "blobs": smooth > 0.3, "large": smooth > -1.5}.get(kind, smooth > 0.3)
    if kind == "full":
        masks[:, 0] = True
    elif kind == "one pixel":
        masks[:, 1] = False
        masks[range(count), 1, rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)] = True
    elif kind == "on the border":
        masks[:, :, 4:-4, 4:-4] = False
        masks[:, :, 0] = True
    return masks


@pytest.mark.parametrize("kind", ["noise", "blobs", "large", "full", "one pixel", "on the border"])
def test_agreement_with_monai_and_with_scipys_distance_transform(kind):
    pytest.importorskip("monai", reason="MONAI is a development extra: pip install hymunet[dev]")
    from monai.metrics import (
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
        compute_iou,
        compute_surface_dice,
    )

    from benchmarks.metrics import with_scipy

    masks = drawn(kind)
    pair = [torch.from_numpy(masks[:, side])[:, None] for side in (0, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {
            "dice": compute_dice(*pair),
            "iou": compute_iou(*pair),
            "hd95": compute_hausdorff_distance(*pair, include_background=True, percentile=95),
            "assd": compute_average_surface_distance(*pair, include_background=True, symmetric=True),
            "nsd_1px": compute_surface_dice(*pair, [1.0], include_background=True),
            "nsd_2px": compute_surface_dice(*pair, [2.0], include_background=True),
        }
    for index, (prediction, truth) in enumerate(masks):
        scores = image_scores(prediction, truth)
        for name, values in theirs.items():
            assert scores[name] == pytest.approx(values[index].item(), abs=1e-4), name
        by_transform = with_scipy(prediction, truth)
        assert [scores["dice"], scores["hd95"], scores["nsd_2px"]] == pytest.approx(
            list(by_transform.values()), abs=1e-9
        )


@given(mask_pairs())
@settings(max_examples=100, deadline=None)
def test_distances_with_the_built_part_and_without_it_are_the_same_bits(pair):
    if contours._built() is None:
        pytest.skip("hymunet/evaluation/_contours.so is not built: no C++ compiler at install")
    masks = [mask.astype(np.uint8) for mask in pair]
    if all(mask.any() for mask in masks):
        for fast, slow in zip(contours.distances(*masks), contours.by_tree(*masks), strict=True):
            assert np.array_equal(fast, slow)


def test_without_the_built_part_the_scores_are_the_same(monkeypatch, tmp_path):
    prediction, truth = drawn("blobs")[0]
    expected = image_scores(prediction, truth)
    monkeypatch.setattr(contours, "LIBRARY", tmp_path / "_contours.so")
    contours._built.cache_clear()
    try:
        assert contours._built() is None
        assert image_scores(prediction, truth) == expected
    finally:
        contours._built.cache_clear()


@given(mask_pairs())
@settings(max_examples=50, deadline=None)
def test_distances_are_symmetric_and_zero_for_equal_masks(pair):
    forward, back = image_scores(*pair), image_scores(*pair[::-1])
    for name in metrics.SURFACES:
        assert forward[name] == pytest.approx(back[name], abs=1e-12)
    assert image_scores(pair[0], pair[0])["hd95"] == 0


def test_large_images_are_exact_too():
    """Distances of hundreds of pixels, as on full-size dermoscopy: no chamfer approximation anywhere."""
    prediction, truth = np.zeros((2, 700, 900), bool)
    prediction[10, 15], truth[680, 870] = True, True
    assert image_scores(prediction, truth)["hd95"] == image_scores(prediction, truth)["assd"] == np.hypot(670, 855)


@pytest.mark.parametrize("shapes", [((4, 5), (5, 4)), ((3, 3, 3), (3, 3, 3)), ((0, 4), (0, 4))])
def test_what_are_no_two_masks_is_refused_with_both_shapes(shapes):
    with pytest.raises(ValueError, match=r"prediction \(.*\) and truth \(.*\) must be masks"):
        image_scores(*(np.zeros(shape, bool) for shape in shapes))
