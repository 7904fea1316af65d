"""The forest plot: one difference far from all others does not press these together, and no name is cut."""

import xml.etree.ElementTree as ElementTree

import pytest

from hymunet.evaluation.statistics import Comparison, Interval
from hymunet.study import pictures

CASES = {  # differences in points, each half a point wide to either side -> the axis, before its margin of a twentieth
    "all alike": ([0.4, -0.9, 1.2], (-1.4, 1.7)),
    "one far above": ([0.4, -0.9, 1.2, 21.0], (-1.4, 1.7)),
    "one far below": ([0.4, -0.9, 1.2, -21.0], (-1.4, 1.7)),
    "one to either side": ([0.4, -0.9, 1.2, 21.0, -30.0], (-1.4, 1.7)),
    "one alone": ([21.0], (0.0, 21.5)),
    "large ones alike": ([21.0, 25.0, 19.0], (0.0, 25.5)),
}


def compared(points: list[float]) -> list[Comparison]:
    return [
        Comparison(f"model {i}", Interval(p / 100, (p - 0.5) / 100, (p + 0.5) / 100, 0.25, 9, True), *[0.5] * 5)
        for i, p in enumerate(points)
    ]


@pytest.mark.parametrize("case", CASES)
def test_the_axis_holds_all_but_what_is_far_away(case: str) -> None:
    points, (low, high) = CASES[case]
    margin = 0.05 * (high - low)
    assert pictures.limits(compared(points)) == pytest.approx((low - margin, high + margin))
    ElementTree.fromstring(pictures.forest(compared(points), [str(p) for p in points], "ours").encode())


def test_no_difference_at_all_has_an_axis_too() -> None:
    nothing = Comparison("same", Interval(0.0, 0.0, 0.0, 0.0, 9, True), *[0.5] * 5)
    assert pictures.limits([nothing, nothing]) == (-1.0, 1.0)


NAMES = {
    "short": ("U-Net", ["HyM-UNet", "CE-Net"]),
    "a long reference": (
        "HyM-UNet on a pretrained EfficientNet-Lite2",
        ["CE-Net", "HyM-UNet, convolutions alone, from scratch"],
    ),
    "both long": (
        "A network of a name that fills most of a line " * 2,
        ["convolutions alone (equal depth and size)"] * 2,
    ),
}


@pytest.mark.parametrize("case", NAMES)
def test_every_word_is_within_the_picture(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, titles = NAMES[case]
    drawn, svg = [], pictures._svg
    monkeypatch.setattr(pictures, "_svg", lambda figure, made_from: drawn.append(figure) or svg(figure, made_from))
    pictures.forest(compared([0.4, 1.2]), titles, reference)
    words, (width, height) = drawn[0].get_tightbbox(), drawn[0].get_size_inches()
    hair = 0.02  # inches, of a letter's side bearing
    assert min(words.x0, words.y0, width - words.x1, height - words.y1) >= -hair
