"""Images are resized in an exported graph to the very bytes that training saw: OpenCV's, whatever the ratio."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hymunet.images import resize

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX is an extra: pip install hymunet[export]")
pytest.importorskip("onnx", reason="ONNX is an extra: pip install hymunet[export]")
MODEL_SIZES = (32, 48, 100)
DIGITS = np.array([1, 256, 65536], np.float32)


@pytest.fixture(scope="module")
def resized():
    """(image, model's size) -> what the model sees. The model is a sum from which a pixel's bytes can be told."""
    from onnx import parser

    from hymunet.portable import graph

    def one(size):
        core = f"""<ir_version: 10, opset_import: ["" : 18]>
        core (uint8[N, {size}, {size}, 3] pixels) => (float[N, {size}, {size}] small)
        <float[3] digits = {{1, 256, 65536}}>
        {{ f = Cast <to = 1> (pixels)
          small = MatMul (f, digits) }}"""
        whole = graph.around(parser.parse_model(core), size, 0.5)
        inner = next(node.output[0] for node in whole.graph.node if node.op_type == "MatMul")
        whole.graph.output.add().name = inner
        return onnxruntime.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"]), inner

    sessions = {size: one(size) for size in MODEL_SIZES}

    def run(images, size):
        session, inner = sessions[size]
        return session.run([inner], {"images": images})[0]

    return run


def picture(height, width, coarse, seed):
    """Noise; coarse: of few levels, so that many means lie half-way between two levels."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2) // 4 * 4 if coarse else noise


RATIOS = {  # of the image's sides to the model's
    "same": (1, 1),
    "half": (2, 2),
    "half along one side": (1, 2),
    "whole": (3, 3),
    "whole, two": (2, 5),
    "whole, beyond the reach of a reciprocal": (1, 49),
    "whole along one side": (2, 2.37),
    "halves": (1.5, 2.5),
    "thirds": (4 / 3, 5 / 3),
    "hardly above one": (1.01, 1.03),
    "odd": (2.71, 3.14),
    "large": (13.3, 7.7),
    "one side grows": (0.4, 2.8),
    "one pixel high": (0, 22),
    "grows": (0.7, 0.6),
    "grows to double": (0.5, 0.5),
    "one pixel": (0, 0),
}


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("name", RATIOS)
@pytest.mark.parametrize("size", MODEL_SIZES)
def test_every_kind_of_ratio(resized, size, name, coarse):
    height, width = (max(1, round(ratio * size)) for ratio in RATIOS[name])
    images = np.stack([picture(height, width, coarse, seed) for seed in range(2)])
    expected = np.stack([resize(image, size) for image in images]).astype(np.float32) @ DIGITS
    np.testing.assert_array_equal(resized(images, size), expected)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(MODEL_SIZES), st.integers(1, 420), st.integers(1, 420), st.booleans(), st.integers(0, 2**32 - 1))
def test_any_size(resized, size, height, width, coarse, seed):
    image = picture(height, width, coarse, seed)
    np.testing.assert_array_equal(resized(image[None], size)[0], resize(image, size).astype(np.float32) @ DIGITS)
