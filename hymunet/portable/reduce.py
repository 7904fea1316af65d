"""Smaller forms of an exported file: weights in float16, or layers in 8-bit whole numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hymunet.prediction.onnx_file import runtime

if TYPE_CHECKING:
    import onnx

FORM = "format"  # in the file's metadata
FORMS = ("float32", "float16", "int8")
LEAST = 256  # numbers in a tensor, below which it stays as it is
LAYERS = ["Conv", "MatMul"]  # those with weights of their own
_CONSTANTS = ("before/", "after/")  # sizes and interpolation, which stay exact


def halve(path: Path) -> None:
    """Weights in float16, half the file; all is computed in float32 still, from the rounded weights. Vectors stay:
    biases and statistics, which are few.

    Raises ValueError for a weight that float16 cannot hold.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.name.startswith(_CONSTANTS):
            continue
        values = numpy_helper.to_array(tensor)
        if values.ndim < 2 or values.size < LEAST:
            continue
        with np.errstate(over="ignore"):
            small = values.astype(np.float16)
        if not np.isfinite(small).all():
            raise ValueError(f"{tensor.name}: holds {np.abs(values).max():g}, more than float16 can; keep float32")
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(small, f"{name}/half"))
        casts.append(helper.make_node("Cast", [f"{name}/half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    _save(model, path, "float16")


def quantise(path: Path, images: Iterable[np.ndarray]) -> None:
    """Convolutions and products with weights in 8 bits, weights by channel, inputs by the range over `images` (static).

    images: uint8 RGB (H, W, 3), of the training set. The scans and what lies around the network stay in float32.
    """
    import onnx

    runtime()
    from onnxruntime import quantization

    from hymunet.portable.graph import describe

    whole = onnx.load(path)
    weights = {tensor.name for tensor in whole.graph.initializer}
    layers = [node.name for node in whole.graph.node if node.op_type in LAYERS and weights & set(node.input)]
    told = {entry.key: entry.value for entry in whole.metadata_props}
    reduced = path.with_name(f"{path.name}.int8")
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises steps that the export has taken
    try:
        quantization.quantize_static(
            path,
            reduced,
            _Reader(images),
            op_types_to_quantize=LAYERS,
            nodes_to_quantize=layers,
            per_channel=True,
        )
    finally:
        root.setLevel(level)
    model = onnx.load(reduced)
    describe(model, told)
    _save(model, path, "int8")
    reduced.unlink()


def reduce(path: Path, form: str, images: Iterable[np.ndarray]) -> None:
    """The file at `path`, float32, becomes one of FORMS. images: as `quantise` takes them."""
    if form == "float16":
        halve(path)
    elif form == "int8":
        quantise(path, images)


class _Reader:
    """What ONNX Runtime's calibration asks for."""

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self._images: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"images": image[None]}


def _save(model: onnx.ModelProto, path: Path, form: str) -> None:
    import onnx

    from hymunet.portable.graph import describe

    told = {entry.key: entry.value for entry in model.metadata_props}
    describe(model, {**told, FORM: form})
    onnx.save(model, path)
