"""Shifts: each change does what its name says, and drops of Dice are those worked out by hand."""

import cv2
import numpy as np
import pytest
import torch

from hymunet.data.acquire.synthetic import draw
from hymunet.evaluation.cases import Case
from hymunet.evaluation.shifts import LOOKS, MOVES, shifts
from hymunet.evaluation.statistics import paired_difference
from hymunet.inference import Segmenter

SIZE = 64
RED = 150 / 255  # probability at which the model below says lesion


class Red(torch.nn.Module):
    """Lesion where the image is red enough: it sees each pixel by itself, so that turning the image turns the mask."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return torch.logit((x[:, :1] * self.weight + 1) / 2, eps=1e-6)


class Squares:
    """Red squares of 200 on skin of 100; the sides of the squares differ."""

    source = "drawn"

    def __init__(self, groups=None):
        self.ids, self.groups = [f"{index}" for index in range(6)], groups

    def __getitem__(self, position):
        image, truth = np.full((SIZE, SIZE, 3), 100, np.uint8), np.zeros((SIZE, SIZE), np.uint8)
        image[8 : 24 + 4 * position, 10:30] = 200
        truth[8 : 24 + 4 * position, 10:40] = 1
        return Case(self.ids[position], image, truth, None, {})


def found(cases):
    segmenter = Segmenter(Red(), SIZE, RED, False, {})
    rows = [{"id": id, "dice": 2 * 20 / (20 + 30)} for id in cases.ids]  # two thirds of the truth's columns
    return {entry["shift"]: entry for entry in shifts(segmenter, cases, rows, 200, 0, cases.groups)}


def test_turning_changes_nothing_for_a_model_without_a_direction_and_darkness_takes_all():
    entries = found(Squares())
    assert list(entries) == [*MOVES, *LOOKS]
    for name in (*MOVES, "30 % lighter", "40 % more contrast", "40 % less contrast", "hue turned by +15°"):
        assert entries[name]["dice"] == pytest.approx(0.8), name
        assert entries[name]["difference"]["mean"] == pytest.approx(0, abs=1e-12), name
    dark = entries["30 % darker"]  # 200 becomes 140, below what the model takes for red
    assert dark["dice"] == 0
    assert dark["difference"] == pytest.approx({"mean": -0.8, "low": -0.8, "high": -0.8})


def test_intervals_draw_near_duplicates_together(monkeypatch):
    scores = iter([0.1, 0.5, 0.6, 0.2, 0.9, 0.7] * 16)
    monkeypatch.setattr("hymunet.evaluation.shifts._dice", lambda *arguments: next(scores))
    groups = ["a", "a", "b", "b", "c", "c"]
    expected = paired_difference(np.array([0.1, 0.5, 0.6, 0.2, 0.9, 0.7]), np.full(6, 0.8), 200, 0, groups)
    entries = found(Squares(groups))
    assert entries["30 % darker"]["difference"] == expected
    assert expected["low"] < expected["mean"] < expected["high"]


@pytest.fixture(scope="module")
def image():
    return draw(3, 128, 7)[0]


@pytest.mark.parametrize("name", [*MOVES, *LOOKS])
def test_a_change_is_a_picture_of_the_same_size_and_the_same_every_time(name, image):
    before, change = image.copy(), (MOVES | LOOKS)[name]
    changed = change(image)
    assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
    assert (changed == change(image)).all()
    assert (image == before).all(), "the image that was given stays as it was"
    assert (changed != image).any()


def test_each_change_does_what_its_name_says(image):
    pixels, means = image.astype(float), image.mean((0, 1))
    dark, light, flat, strong = (
        LOOKS[name](image).astype(float)
        for name in ("30 % darker", "30 % lighter", "40 % less contrast", "40 % more contrast")
    )
    assert dark == pytest.approx(0.7 * pixels, abs=0.5)
    assert light == pytest.approx(np.minimum(1.3 * pixels, 255), abs=0.5)
    assert flat == pytest.approx(means + 0.6 * (pixels - means), abs=0.5)
    assert strong == pytest.approx(np.clip(means + 1.4 * (pixels - means), 0, 255), abs=0.5)
    back = LOOKS["hue turned by -15°"](LOOKS["hue turned by +15°"](image)).astype(float)
    assert np.abs(back - pixels).max() <= 3

    def detail(picture):
        return np.abs(cv2.Laplacian(np.asarray(picture, np.float32), cv2.CV_32F)).mean()

    half, quarter = LOOKS["half the resolution"](image), LOOKS["a quarter of the resolution"](image)
    assert detail(quarter) < detail(half) < detail(image)
    assert detail(LOOKS["blurred (sigma 1 % of the side)"](image)) < detail(image)
    errors = [np.abs(LOOKS[f"JPEG quality {quality}"](image) - pixels).mean() for quality in (30, 10)]
    assert 0 < errors[0] < errors[1] < 20
    hairy = LOOKS["hair added"](image).astype(float)
    touched = (hairy != pixels).any(-1)
    assert 0.005 < touched.mean() < 0.2
    assert hairy[touched].mean() < pixels[touched].mean() - 20
    for name, turned in (
        ("mirrored left to right", image[:, ::-1]),
        ("mirrored top to bottom", image[::-1]),
        ("turned by 180°", image[::-1, ::-1]),
        ("turned by 90°", image.transpose(1, 0, 2)[::-1]),
    ):
        assert (MOVES[name](image) == turned).all(), name
