"""Slices of test images: found from facts, with their numbers; what is seen in an image, on drawn ones."""

import cv2
import numpy as np
import pytest

from hymunet.data.acquire import synthetic
from hymunet.evaluation.appearance import appearance
from hymunet.evaluation.slices import SMALL, members, read_columns, scores


def rows(count=40):
    rng = np.random.default_rng(0)
    base = {"components": 1, "dark_corners": 0, "ruler": False, "sticker": False, "hair": 0.0, "source": "isic2018"}
    return [
        {
            **base,
            "id": f"{index:02}",
            "mask_area": [0.02, 0.1, 0.5][index % 3],
            "touches_border": index < 5,
            "contrast": None if index == 7 else 20.0,
            "megapixels": 0.5,
            "dice": float(rng.uniform(0.5, 1)),
            "iou": 0.6 if index < 10 else 0.9,
        }
        for index in range(count)
    ]


def test_slices_are_those_with_several_values_in_their_own_order():
    found = members(rows())
    assert list(found) == ["lesion size", "border contact", "contrast to the skin"]
    assert list(found["lesion size"]) == ["under 5 % of the image", "5 to 25 %", "over 25 %"]
    assert list(found["contrast to the skin"]) == ["medium (15 to 30)", "unknown"]
    assert found["border contact"] == {"inside the image": list(range(5, 40)), "touches the frame": list(range(5))}
    for values in found.values():
        assert sorted(position for positions in values.values() for position in positions) == list(range(40))


def test_every_slice_has_its_number_interval_and_warning():
    table = rows()
    found = scores(table, members(table), 200, 0)
    by = {(entry["slice"], entry["value"]): entry for entry in found}
    frame = by["border contact", "touches the frame"]
    assert (frame["images"], frame["failed"], frame["small"]) == (5, 5, True)
    assert frame["dice"]["mean"] == pytest.approx(np.mean([row["dice"] for row in table[:5]]))
    assert frame["dice"]["low"] < frame["dice"]["mean"] < frame["dice"]["high"]
    inside = by["border contact", "inside the image"]
    assert (inside["images"], inside["failed"], inside["small"]) == (35, 5, False)
    assert SMALL == 20


@pytest.mark.parametrize(("groups", "small"), [(1, True), (3, True), (19, True), (20, False), (35, False)])
def test_a_slice_of_few_groups_is_small_however_many_images_they_hold(groups, small):
    table = rows()
    of = [f"g{index % groups}" for index in range(len(table))]
    found = {entry["value"]: entry for entry in scores(table, members(table), 200, 0, of)}
    assert (found["inside the image"]["images"], found["inside the image"]["small"]) == (35, small)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["id,device", "00,A", "01,B", "39,A"], {"(empty)": 37, "A": 2, "B": 1}),
        (
            ["id,age", *(f"{i:02},{i}" for i in range(30))],
            {"up to 9.66667": 10, "9.66667 to 19.3333": 10, "over 19.3333": 10, "(empty)": 10},
        ),
        (["id;device;note", "00;A;7,5", "01;B;"], {"(empty)": 38, "A": 1, "B": 1}),
        (["id\tdevice", "00\tA"], {"(empty)": 39, "A": 1}),
        (["id,site", *(f"{i:02},place {i % 20}" for i in range(40))], {"(others)": 18}),
        (["id,device", " 00 ,A", "01,(empty)", "02,", ",", "  ,  "], {"(empty)": 39, "A": 1}),
        (
            ["id,site", *(f"{i:02},{'(others)' if i < 3 else f'place {i % 20}'}" for i in range(40))],
            {"(others)": 20, "place 19": 2},
        ),
    ],
)
def test_own_columns_by_value_by_thirds_or_the_most_frequent(tmp_path, lines, expected):
    table = rows()
    path = tmp_path / "own.csv"
    path.write_text("\n".join(lines) + "\n")
    own = read_columns(path, [row["id"] for row in table])
    values = members(table, own)[next(iter(own))]
    found = {value: len(positions) for value, positions in values.items()}
    assert {value: found[value] for value in expected} == expected
    assert sum(found.values()) == 40


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name,device\n00,A\n", "expected a column id"),
        (b"id\n00\n", "expected a column id and others"),
        (b"id,device\n00,A\n00,B\n", "the id '00' twice"),
        (b"id,device\n00,A\n 00 ,B\n", "the id '00' twice"),
        (b"id,device\nother,A\n", "knows none of the 40 images; its ids are like 'other'"),
        (b"id,device\n\xff\xfe,A\n", "not a CSV in UTF-8"),
        (b"", "expected a column id"),
    ],
)
def test_own_columns_that_are_none_are_refused(tmp_path, content, said):
    path = tmp_path / "own.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        read_columns(path, [row["id"] for row in rows()])
    assert str(path) in str(error.value)


def test_an_own_columns_ids_are_those_of_the_pairs_however_a_system_writes_their_letters(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("id,device\nle\u0301sion,A\n", encoding="utf-8")
    assert read_columns(path, ["l\u00e9sion", "other"]) == {"device": ["A", ""]}


def scene(colour=(226, 178, 160), lesion=(120, 80, 60), size=192):
    image = np.full((size, size, 3), colour, np.uint8)
    mask = np.zeros((size, size), np.uint8)
    cv2.circle(mask, (size // 2, size // 2), size // 5, 1, -1)
    image[mask > 0] = lesion
    noise = np.random.default_rng(0).integers(-4, 5, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), mask


def test_contrast_is_the_colour_difference_to_the_skin_around():
    faint, strong = (appearance(*scene(lesion=lesion))["contrast"] for lesion in ((210, 160, 142), (60, 40, 30)))
    assert faint < 10 < 40 < strong
    lab = [
        cv2.cvtColor(np.full((1, 1, 3), c, np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]
        for c in ((226, 178, 160), (60, 40, 30))
    ]
    assert strong == pytest.approx(np.linalg.norm(lab[0] - lab[1]), abs=2)
    image, mask = scene()
    assert appearance(image, 0 * mask)["contrast"] is None
    assert appearance(image, 0 * mask + 1)["contrast"] is None


@pytest.mark.parametrize("size", [96, 128, 192, 512])
def test_hair_ruler_and_sticker_are_seen_where_they_are_and_not_elsewhere(size):
    plain, mask = scene(size=size)
    seen = appearance(plain, mask)
    assert (seen["hair"], seen["ruler"], seen["sticker"]) == (0, False, False)
    hairy = plain.copy()
    for offset in range(5):
        cv2.line(
            hairy, (offset * size // 5, 0), (offset * size // 5 + size // 6, size), (40, 30, 30), max(1, size // 128)
        )
    assert appearance(hairy, mask)["hair"] > 0.004
    ruler = plain.copy()
    for place in range(0, size, size // 16):
        cv2.line(ruler, (place, size // 20), (place, size // 20 + size // 24), (40, 40, 40), max(1, size // 190))
    assert appearance(ruler, mask)["ruler"]
    sticker = plain.copy()
    cv2.circle(sticker, (size, 0), size // 6, (70, 90, 200), -1)
    assert appearance(sticker, mask)["sticker"]


@pytest.mark.parametrize("degrees", [0, 20, 90])
def test_a_scale_in_one_piece_is_a_ruler_and_its_line_alone_is_none(degrees):
    """As a dermoscope's software draws it: a line with teeth, every fifth longer."""
    side = 512
    image, mask = scene(size=side)
    along = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    start = np.array([0.25, 0.8] if degrees < 90 else [0.9, 0.3]) * side

    def stroke(begin, end):
        cv2.line(image, *(tuple(round(part) for part in point) for point in (begin, end)), (90, 70, 60), 2)

    stroke(start, start + 0.45 * side * along)
    assert not appearance(image, mask)["ruler"]
    for tooth in range(11):
        place = start + 0.045 * tooth * side * along
        stroke(place, place + (0.045 if tooth % 5 == 0 else 0.03) * side * np.array([along[1], -along[0]]))
    assert appearance(image, mask)["ruler"]


def test_on_drawn_scenes_the_ruler_is_told_from_hair_mostly():
    """The generator draws hair over rulers and vignettes over both: a rule of thumb need not see every one."""
    found = {True: [], False: []}
    for index in range(120):
        rng = np.random.Generator(np.random.PCG64([3, index]))
        calls = []
        real = synthetic._draw_ruler
        synthetic._draw_ruler = lambda *arguments: calls.append(1) or real(*arguments)  # noqa: B023
        try:
            image, mask = synthetic.draw(index, 256, seed=3)
        finally:
            synthetic._draw_ruler = real
        del rng
        found[bool(calls)].append(appearance(image, mask // 255)["ruler"])
    assert np.mean(found[True]) > 0.6, "rulers that are seen"
    assert np.mean(found[False]) < 0.1, "rulers that are none"
