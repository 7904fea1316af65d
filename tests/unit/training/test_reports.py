"""The curves of trainings that are short, or that come to nothing."""

import warnings

import cv2
import numpy as np
import pytest

from hymunet.training.reports import curves


@pytest.mark.parametrize("loss", [None, 0.0, 1.5])
@pytest.mark.parametrize("rates", [[0.0], [1e-3], [1e-3, 0.0], [0.0, 0.0]], ids=str)
def test_curves_are_drawn_whatever_the_history_holds(loss, rates):
    """A training of one epoch that ends at min_learning_rate 0 has no rate that a logarithm takes."""
    history = [
        {"epoch": epoch + 1, "loss": loss, "validation_dice": 0.0, "learning_rate": rate}
        for epoch, rate in enumerate(rates)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = cv2.imdecode(np.frombuffer(curves(history), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
