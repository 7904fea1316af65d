"""What an evaluation settled is what the served model does."""

from dataclasses import replace

import numpy as np
import pytest
from mlflow.pyfunc import PythonModelContext

from hymunet.data.acquire.synthetic import draw
from hymunet.inference import Segmenter
from hymunet.registry.serve import Served

TESTED = {"threshold": 0.3, "flips": False, "temperature": 3.0}


@pytest.mark.parametrize("kept", [("threshold", "flips", "temperature"), ("threshold", "flips")])
def test_the_served_model_decides_with_the_temperature_that_it_was_tested_with(finished_training, kept):
    """Versions from before there was a temperature name none, and have none."""
    folder = finished_training / "artifacts/model"
    decides = {name: TESTED[name] for name in kept}
    served = Served()
    served.load_context(PythonModelContext(artifacts={"model": str(folder)}, model_config=decides))
    images = np.stack([draw(index, 48, seed=7)[0] for index in range(2)])
    masks = served.predict(None, images)
    same, other = (
        np.stack(Segmenter.load(folder, **TESTED | {"temperature": temperature}).masks(list(images)))
        for temperature in ((3.0, 1.0) if "temperature" in kept else (1.0, 3.0))
    )
    assert np.array_equal(masks, same)
    assert not np.array_equal(masks, other)


@pytest.mark.parametrize("tested", [{"largest_region": True}, {"largest_region": False}, {}])
def test_the_served_model_keeps_the_regions_that_it_was_tested_with(finished_training, tested):
    """Versions from before there was a choice keep all."""
    folder = finished_training / "artifacts/model"
    image = draw(0, 48, seed=7)[0]
    probability = Segmenter.load(folder).probabilities(image[None])[0]
    decides = {"threshold": float(np.quantile(probability, 0.5)), "flips": False, "temperature": 1.0}
    served = Served()
    served.load_context(PythonModelContext(artifacts={"model": str(folder)}, model_config={**decides, **tested}))
    segmenter = Segmenter.load(folder, **decides)
    kept = tested.get("largest_region", False)
    expected, other = (replace(segmenter, largest_region=which).masks([image])[0] for which in (kept, not kept))
    (found,) = served.predict(None, image[None])
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, other)
