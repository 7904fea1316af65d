"""Members that agree that there is nothing agree."""

import numpy as np
import pytest

from hymunet.portable.measure import measure
from hymunet.prediction.ensemble import Ensemble, mask_dice

EMPTY, LEFT, WHOLE = np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8), np.ones((4, 4), np.uint8)


class Fixed:
    """A model whose probabilities are given."""

    threshold, flips, largest_region, facts, decides, trained_on = 0.5, False, False, {}, "", None

    def __init__(self, mask):
        self.mask = mask.astype(np.float32)

    def prepare(self, image):
        return image

    def compute(self, prepared):
        return [self.mask for _ in prepared]

    def finish(self, computed, shape):
        return computed


@pytest.mark.parametrize(
    ("one", "other", "dice"),
    [(EMPTY, EMPTY, 1), (EMPTY, WHOLE, 0), (WHOLE, EMPTY, 0), (WHOLE, WHOLE, 1), (LEFT, WHOLE, 0.4)],
)
def test_agreement_of_two_masks(one, other, dice):
    assert mask_dice(one, other) == dice
    assert mask_dice(one.astype(bool), other.astype(bool)) == dice
    both = Ensemble([Fixed(one), Fixed(other)])
    found = both.found(both.compute([both.prepare(EMPTY)])[0], EMPTY.shape)
    assert found.agreement == dice
    image = np.zeros((4, 4, 3), np.uint8)
    (row,) = measure({"one": Ensemble([Fixed(one)])}, [(image, other)], None)
    assert row.dice == dice
