"""What an evaluation settled is what the served model does."""

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
