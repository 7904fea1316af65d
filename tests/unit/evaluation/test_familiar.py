"""An image is told from the training images by the measure that moved, in words."""

import numpy as np
import pytest

from hymunet.data.acquire.synthetic import draw
from hymunet.evaluation import familiar
from hymunet.prediction.ensemble import Ensemble

PHOTOS = [(image, float((mask > 0).mean())) for image, mask, *_ in (draw(number, 64, 3) for number in range(40))]
KNOWN = familiar.ends(PHOTOS)
PHOTO, AREA = PHOTOS[0]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.zeros((8, 9, 3), np.uint8), (0, 0, 0)),
        (np.full((90, 80, 3), 255, np.uint8), (1, 0, 0)),
        (np.full((90, 80, 3), (255, 0, 0), np.uint8), (0.299, 0, 1)),
    ],
)
def test_light_and_colour(image: np.ndarray, expected: tuple[float, ...]) -> None:
    assert tuple(familiar.seen(image).values()) == pytest.approx(expected, abs=0.01)


def test_the_training_images_are_familiar_but_for_those_at_the_ends():
    told = [familiar.unlike(KNOWN, image, area) for image, area in PHOTOS]
    assert told.count("no") >= len(PHOTOS) - 2 * len(familiar.MEASURES)
    assert KNOWN["images"] == len(PHOTOS)


GREY = np.repeat(PHOTO.mean(2, keepdims=True).astype(np.uint8), 3, 2)
MOVED = {  # image and area -> how the words begin
    "black": (np.zeros_like(PHOTO), AREA, "brightness 0 below 0."),
    "white": (np.full_like(PHOTO, 255), AREA, "brightness 1 above 0."),
    "without colour": (GREY, AREA, "saturation 0 below 0."),
    "nothing found": (PHOTO, 0.0, "area_fraction 0 below 0."),
    "all lesion": (PHOTO, 1.0, "area_fraction 1 above 0."),
}


@pytest.mark.parametrize("case", MOVED)
def test_the_measure_that_moved_is_named_with_the_end_that_it_is_beyond(case):
    image, area, begins = MOVED[case]
    assert begins in familiar.unlike(KNOWN, image, area)


def test_an_image_of_any_size_is_measured_alike():
    larger = np.kron(PHOTO, np.ones((5, 7, 1), np.uint8))
    assert familiar.seen(larger) == pytest.approx(familiar.seen(PHOTO), abs=0.01)


def test_images_that_are_all_alike_are_familiar_to_each_other():
    """An area that no short decimal is: rounded on one side alone, every image would be beyond."""
    assert familiar.unlike(familiar.ends([(PHOTO, 1 / 3)] * 20), PHOTO, 1 / 3) == "no"


@pytest.mark.parametrize("images", [[], PHOTOS[:19]])
def test_of_few_images_nothing_is_known(images):
    assert familiar.ends(images) is None
    assert familiar.unlike(None, PHOTO, AREA) == "unknown"


class Member:
    threshold, flips, largest_region, facts, decides = 0.5, False, False, {}, ""

    def __init__(self, trained_on):
        self.trained_on = trained_on


@pytest.mark.parametrize(
    ("members", "area", "told"),
    [
        ([KNOWN], None, "no"),
        ([None], None, "unknown"),
        ([KNOWN, None], None, "unknown"),
        ([KNOWN, KNOWN], 1.0, f"area_fraction 1 above {KNOWN['ends']['area_fraction'][1]:.3g}"),
        ([None, KNOWN], 1.0, f"area_fraction 1 above {KNOWN['ends']['area_fraction'][1]:.3g}"),
    ],
)
def test_an_ensemble_tells_what_any_member_does_not_know(members, area, told):
    sample, own = next(one for one in PHOTOS if familiar.unlike(KNOWN, *one) == "no")
    assert Ensemble([Member(known) for known in members]).unlike(sample, area or own) == told
