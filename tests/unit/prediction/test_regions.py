"""Contours and COCO's run lengths, against the mask that they come from."""

import numpy as np
import pytest

from hymunet.prediction.regions import drawn, regions, runs


def blobs(seed):
    import cv2

    random = np.random.default_rng(seed)
    shape = tuple(map(int, random.integers(1, 90, 2)))
    noise = cv2.GaussianBlur(random.normal(size=shape), (0, 0), float(random.uniform(0.3, 4)))
    return (noise > np.quantile(noise, random.uniform(0, 1))).astype(np.uint8)


def unrolled(counts, shape):
    """As pycocotools reads them: column by column, background first."""
    values = np.repeat(np.arange(len(counts)) % 2, counts)
    return np.pad(values, (0, shape[0] * shape[1] - len(values))).reshape(shape[1], shape[0]).T


@pytest.mark.parametrize("seed", range(20))
def test_both_give_the_mask_back(seed):
    mask = blobs(seed)
    found = regions(mask)
    contoured, rolled = np.zeros_like(mask), np.zeros(mask.shape, int)
    for region in found:
        x, y, width, height = region["box"]
        contoured[y : y + height, x : x + width] |= drawn(region)
        one = unrolled(runs(region, mask.shape), mask.shape)
        assert one.sum() == region["area_pixels"]
        rolled += one
        points = np.array(region["outline"])
        assert (*points.min(0), *points.max(0)) == (x, y, x + width - 1, y + height - 1)
    np.testing.assert_array_equal(contoured, mask)
    np.testing.assert_array_equal(rolled, mask)
    areas = [region["area_pixels"] for region in found]
    assert areas == sorted(areas, reverse=True)


def test_runs_by_hand():
    mask = np.array([[1, 0], [1, 1], [0, 1]], np.uint8)
    (region,) = regions(mask)
    assert runs(region, mask.shape) == [0, 2, 2, 2]
    assert regions(np.zeros((3, 4), np.uint8)) == []
