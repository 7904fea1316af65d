"""Near-duplicates: one lesion recoloured, rescaled, cropped or turned is recognised, another lesion is not."""

from unittest.mock import patch

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hymunet.data.acquire.synthetic import draw
from hymunet.data.divide import candidates, near_duplicates
from hymunet.data.divide.near_duplicates import Features, compare, features, group_ids, mutual_matches, similarity
from hymunet.data.prepare.decode import lesion_view
from hymunet.data.prepare.manifest import perceptual_hash

SIZE = 256


def changed(image, mask, change):
    """The same lesion, otherwise photographed."""
    if change == "colour":
        return np.clip(255 * (image / 255.0) ** 1.4 * np.array([0.8, 1.0, 1.15]), 0, 255).astype(np.uint8), mask
    if change == "scale":
        return (cv2.resize(array, (SIZE * 3 // 5,) * 2, interpolation=cv2.INTER_AREA) for array in (image, mask))
    if change == "crop":
        return image[20:-8, 12:-16], mask[20:-8, 12:-16]
    if change == "mask":
        return image, cv2.dilate(mask, np.ones((15, 15), np.uint8))
    if change == "noise":
        return np.clip(image + np.random.default_rng(0).normal(0, 4, image.shape), 0, 255).astype(np.uint8), mask
    if change == "half turn":
        return image[::-1, ::-1], mask[::-1, ::-1]
    turn = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), 35, 0.95)
    return (
        cv2.warpAffine(image, turn, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT),
        cv2.warpAffine(mask, turn, (SIZE, SIZE), flags=cv2.INTER_NEAREST),
    )


def view_of(image, mask):
    return lesion_view(np.ascontiguousarray(image), np.ascontiguousarray((mask > 127).astype(np.uint8)))


CHANGES = ("colour", "scale", "crop", "mask", "noise", "half turn", "turn")


@pytest.fixture(scope="module")
def cases():
    return [draw(index, SIZE, seed=4) for index in range(24)]


@pytest.fixture(scope="module")
def views(cases):
    return [view_of(*case) for case in cases]


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_lesion_is_recognised(cases, views, change):
    recognised = 0
    for case, view in zip(cases[:8], views, strict=False):
        other = view_of(*changed(*case, change))
        match = compare(features(view), features(other), view, other)
        recognised += bool(match and match.same)
    assert recognised >= 7


def test_other_lesions_are_not(views):
    found = [features(view) for view in views]
    for first in range(len(views)):
        for second in range(first):
            match = compare(found[first], found[second], views[first], views[second])
            assert not (match and match.same), (first, second, match)


def test_groups_gather_the_copies_of_each_lesion(cases):
    pairs = [
        *cases,
        *(changed(*cases[index], change) for index, change in enumerate(CHANGES)),
        changed(*cases[0], "turn"),
    ]
    pairs = [tuple(pair) for pair in pairs]
    views = np.stack([view_of(*pair) for pair in pairs])
    hashes = [f"{perceptual_hash(np.ascontiguousarray(image)):016x}" for image, _ in pairs]
    ids = [f"id{index:02}" for index in range(len(pairs))]
    groups = group_ids(ids, views, hashes)
    expected = {f"id{24 + index}": f"id{index:02}" for index in range(len(CHANGES))} | {"id31": "id00"}
    assert groups == {id: expected.get(id, id) for id in ids}


def framed(image):
    """As a monitor shows it: a bar, an inset and writing, on each picture the same."""
    shown = image.copy()
    shown[:24], shown[-24:], shown[:, :12] = 0, 0, 0
    shown[176:240, 8:72] = (20, 160, 60)
    for line, text in enumerate(("Patient 0171", "2018-03-02", "Olympus", "Res 1080", "x 1.2")):
        cv2.putText(shown, text, (140, 20 + 12 * line), cv2.FONT_HERSHEY_PLAIN, 0.9, (255, 255, 255), 1)
        cv2.putText(shown, text[::-1], (10, 190 + 11 * line), cv2.FONT_HERSHEY_PLAIN, 0.8, (255, 255, 255), 1)
    return shown


def test_without_a_lesion_the_middle_of_the_image_tells(cases):
    pictures = [framed(image) for image, _ in cases[:12]]
    copies = [next(iter(changed(pictures[index], cases[index][1], "colour"))) for index in range(4)]
    nothing = np.zeros((SIZE, SIZE), np.uint8)
    views = np.stack([view_of(image, nothing) for image in [*pictures, *copies]])
    hashes = [f"{perceptual_hash(image):016x}" for image in [*pictures, *copies]]
    ids = [f"id{index:02}" for index in range(16)]
    expected = {f"id{12 + index}": f"id{index:02}" for index in range(4)}
    assert group_ids(ids, views, hashes) == {id: expected.get(id, id) for id in ids}


def test_few_images_and_flat_ones_are_no_trouble():
    flat = np.full((3, 192, 192), 128, np.uint8)
    flat[:, 40:150, 40:150] |= 1
    assert group_ids(["a", "b", "c"], flat, ["0" * 16] * 3) == {"a": "a", "b": "b", "c": "c"}
    assert group_ids(["a"], flat[:1], ["0" * 16]) == {"a": "a"}


@settings(deadline=None, max_examples=50)
@given(st.floats(0.6, 1.7), st.floats(-np.pi, np.pi), st.floats(-60, 60), st.integers(0, 2**32 - 1), st.integers(0, 20))
def test_the_transform_is_found_among_outliers(scale, angle, shift, seed, outliers):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 192, (30, 2))
    true = np.array([[np.cos(angle), -np.sin(angle), shift], [np.sin(angle), np.cos(angle), -shift]]) * [
        scale,
        scale,
        1,
    ]
    others = points @ true[:, :2].T + true[:, 2]
    others[:outliers] = rng.uniform(0, 192, (outliers, 2))
    found = similarity(points, others)
    assert found is not None
    moved = points @ found[:, :2].T + found[:, 2]
    assert np.linalg.norm(moved - others, axis=1)[outliers:].max() < 5
    if outliers == 0:
        np.testing.assert_allclose(found, true, atol=1e-6)


def test_mutual_matches_are_those_of_an_obvious_search():
    rng = np.random.default_rng(0)
    descriptors = rng.integers(0, 40, (25, 128)).astype(np.float32)
    descriptors *= 255 / np.linalg.norm(descriptors, axis=1, keepdims=True)
    other = np.concatenate(
        [
            descriptors[:12] + rng.normal(0, 1, (12, 128)).astype(np.float32),
            descriptors[12:][::-1] * 0 + rng.uniform(0, 40, (13, 128)).astype(np.float32),
        ]
    )
    other *= 255 / np.linalg.norm(other, axis=1, keepdims=True)
    here, there = mutual_matches(Features(np.zeros((25, 2)), descriptors), Features(np.zeros((25, 2)), other))
    assert sorted(zip(here.tolist(), there.tolist(), strict=True)) == [(index, index) for index in range(12)]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 5), st.sampled_from([3, 50]))
@settings(max_examples=60, deadline=None)
def test_the_nearest_are_those_of_an_obvious_search(seed, images, count, values):
    """With few values most are equal: then the earlier row is the nearer one."""
    likeness = np.random.default_rng(seed).integers(0, values, (images, images)).astype(np.float32)
    expected = []
    for row in range(images):
        others = sorted((other for other in range(images) if other != row), key=lambda other: -likeness[row, other])
        expected += [(row, other) for other in others[:count]]
    with patch.object(candidates, "BLOCK", 5):
        found = candidates.nearest_rows(images, lambda rows: likeness[rows].copy(), count)
    assert sorted(map(tuple, found.tolist())) == sorted(expected)


def test_processes_confirm_what_one_does_alone(monkeypatch):
    """The same evidence, in the same order, whoever gathers it."""
    monkeypatch.setattr(near_duplicates, "CHUNK", 3)
    monkeypatch.setattr(near_duplicates, "processors", lambda: 2)
    drawn = [draw(index, 192, seed=0) for index in range(6)]
    views = np.stack([lesion_view(image, mask // 255) for image, mask in [*drawn, drawn[0]]])
    found = [near_duplicates.features(view) for view in views]
    pairs = [(first, second) for first in range(7) for second in range(first + 1, 7)][::-1] * 2
    together = near_duplicates.confirm(found, views, pairs)
    monkeypatch.setattr(near_duplicates, "processors", lambda: 1)
    assert together == near_duplicates.confirm(found, views, pairs)
    assert together[pairs.index((0, 6))].same
