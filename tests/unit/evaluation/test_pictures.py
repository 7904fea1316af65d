"""Images' names as people give them, above their pictures."""

import warnings

import cv2
import numpy as np
import pytest

from hymunet.data.acquire.synthetic import draw
from hymunet.evaluation.pictures import Case, gallery, panel

NAMES = (
    "a$_$b",
    "x$\\frac$y",
    "$x$",
    "cost $5",
    "a\\b",
    "日本",
    "<b>",
    "{x}",
    "%d",
    "x" * 250,
    "𝔘🙂",
    "",
    " ",
    "1e5",
    "nan",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_drawn_as_it_is_and_in_silence(name):
    image, mask = draw(1, 64, seed=1)
    case = Case(name, image, mask // 255, mask // 255, {"dice": 1.0, "hd95": 0.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = [gallery([case]), panel({"best": [case]})]
    for content in drawn:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert min(picture.shape[:2]) > 200
