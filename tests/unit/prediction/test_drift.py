"""Drift is nought on the reference itself, names the measure that moved, and counts who is beyond."""

import numpy as np
import pytest

from hymunet.evaluation import familiar
from hymunet.prediction import drift


def rows(count: int, seed: int, **moved: float) -> list[dict[str, float]]:
    random = np.random.default_rng(seed)
    centre = {name: 1.0 + moved.get(name, 0.0) for name in drift.MEASURES}
    return [{name: float(random.normal(centre[name], 0.1)) for name in drift.MEASURES} for _ in range(count)]


@pytest.mark.parametrize("measure", drift.MEASURES)
def test_the_measure_that_moved_is_named_and_no_other(measure: str) -> None:
    found = drift.compare(drift.profile(rows(2000, 0)), rows(2000, 1, **{measure: 0.3}))
    large = [name for name, one in found["measures"].items() if one["psi"] > 0.25]
    assert large == [measure]
    assert found["measures"][measure]["beyond"] > 0.5
    assert found["out_of_distribution"] >= found["measures"][measure]["beyond"]
    assert found["measures"][measure]["median"] == pytest.approx(1.3, abs=0.02)


def test_the_reference_does_not_differ_from_itself() -> None:
    same = rows(1000, 0)
    found = drift.compare(drift.profile(same), same)
    assert all(one["psi"] == 0 for one in found["measures"].values())
    assert found["out_of_distribution"] <= 2 * familiar.TAIL * len(drift.MEASURES)


def test_the_index_is_as_published() -> None:
    """Two bins, half and half against one to three: (0.25 - 0.5) ln(0.5) + (0.75 - 0.5) ln(1.5)."""
    expected = 0.25 * np.log(2) + 0.25 * np.log(1.5)
    assert drift._stability(np.array([0.5, 0.5]), np.array([0.25, 0.75])) == pytest.approx(expected)


def test_one_value_for_all_is_no_division_by_nought() -> None:
    flat = [dict.fromkeys(drift.MEASURES, 1.0)] * 30
    assert drift.compare(drift.profile(flat), flat)["measures"]["megapixels"]["psi"] == 0
    moved = drift.compare(drift.profile(flat), [dict.fromkeys(drift.MEASURES, 2.0)] * 3)
    assert moved["out_of_distribution"] == 1.0


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="3 images are too few"):
        drift.profile(rows(3, 0))
    with pytest.raises(ValueError, match="no image was measured"):
        drift.compare(drift.profile(rows(30, 0)), [])


def test_images_of_one_size_are_not_beyond_each_other() -> None:
    """A size that no short decimal is: rounded on one side alone, every image would be out of distribution."""
    image = np.full((64, 64, 3), 90, np.uint8)
    reference = [drift.measured(64, 64, 0.25, familiar.seen(image))] * 30
    found = drift.compare(drift.profile(reference), [drift.measured(64, 64, 0.25, familiar.seen(image))])
    assert reference[0]["megapixels"] == 64 * 64 / 1e6
    assert found["out_of_distribution"] == 0
