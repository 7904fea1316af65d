"""Masks cut from probabilities: against a flood fill in plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hymunet.masks import cut


def flooded(mask: np.ndarray) -> np.ndarray:
    """The largest of the regions that touch at sides and corners; of equals the one whose first pixel comes first."""
    left, best = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}, set()
    for start in sorted(left):
        region, edge = set(), [start] if start in left else []
        while edge:
            y, x = edge.pop()
            if (y, x) in left:
                left.remove((y, x))
                region.add((y, x))
                edge += [(y + down, x + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        best = max(best, region, key=len)
    found = np.zeros(mask.shape, np.uint8)
    for place in best:
        found[place] = 1
    return found


@settings(max_examples=200, deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1)))
def test_the_largest_region_is_that_of_a_flood_fill(mask: np.ndarray) -> None:
    assert np.array_equal(cut(mask.astype(np.float32), 0.5, largest_region=True), flooded(mask))
    assert np.array_equal(cut(mask.astype(np.float32), 0.5), mask)


CASES = {
    "nothing": (["...", "..."], ["...", "..."]),
    "everything": (["##", "##"], ["##", "##"]),
    "one": (["##.", "..."], ["##.", "..."]),
    "the larger": (["##..", "...#", "#..#", "..##"], ["....", "...#", "...#", "..##"]),
    "corners touch": (["#..", ".#.", "..#"], ["#..", ".#.", "..#"]),
    "equals: the first line": (["..#.", "#.#.", "#..."], ["..#.", "..#.", "...."]),
    "equals in a line: the left": (["#.#", "#.#"], ["#..", "#.."]),
    "its holes stay": (["###.", "#.#.", "####"], ["###.", "#.#.", "####"]),
}


@pytest.mark.parametrize("case", CASES)
def test_which_region_stays(case: str) -> None:
    given_mask, wanted = (np.array([[letter == "#" for letter in row] for row in rows]) for rows in CASES[case])
    found = cut(given_mask.astype(np.float32), 0.5, largest_region=True)
    assert found.dtype == np.uint8
    assert np.array_equal(found > 0, wanted)


def test_a_probability_at_the_threshold_is_outside() -> None:
    assert cut(np.array([[0.5, 0.500001]], np.float32), 0.5).tolist() == [[0, 1]]
