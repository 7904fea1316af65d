"""Scores from pixel counts: pooled, and on tensors as in validation."""

import numpy as np
import pytest
import torch

from hymunet import metrics
from hymunet.evaluation.measure import image_scores


def test_pooled_scores_count_all_pixels_as_one_image():
    rng = np.random.default_rng(1)
    masks = rng.random((2, 7, 20, 20)) > 0.7
    masks[:, 3] = False
    rows = [image_scores(p, t) for p, t in zip(*masks, strict=True)]
    tiled = image_scores(*(mask.reshape(-1, 20) for mask in masks))
    pooled = metrics.pooled_scores(rows)
    assert pooled == {name: tiled[name] for name in metrics.OVERLAPS}
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
    expected = [image_scores(p, t)["dice"] for p, t in zip(prediction, truth, strict=True)]
    assert dice.dtype == torch.float32
    assert dice.tolist() == pytest.approx(expected, abs=1e-6)
    assert dice[:3].tolist() == [1, 0, 0]
