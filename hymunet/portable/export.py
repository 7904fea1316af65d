"""The model as one ONNX file, from images of any size to masks at that size, checked against the model itself."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from hymunet import atomic, bundled
from hymunet.evaluation import familiar
from hymunet.images import normalise
from hymunet.inference import FLIPS, Segmenter, tempered
from hymunet.models.protocols import Scans, scans
from hymunet.ops.selective_scan import choose_backend
from hymunet.portable.agreement import Agreement, compare
from hymunet.portable.measure import Row, measure
from hymunet.portable.reduce import reduce
from hymunet.portable.target import check_place, is_onnx_of_ours
from hymunet.prediction.ensemble import Ensemble
from hymunet.prediction.onnx_file import WEIGHTS_KEY, OnnxModel
from hymunet.prediction.ours import USE
from hymunet.prediction.segmenter import TorchModel

if TYPE_CHECKING:
    from hymunet.portable.prepared import Images

CORE = ("pixels", "small")


class Portable(nn.Module):
    """uint8 RGB (B, S, S, 3) -> probability of lesion, float32 (B, S, S), as Segmenter.probabilities."""

    def __init__(self, model: nn.Module, temperature: float = 1.0, flips: bool = False) -> None:
        super().__init__()
        self.model, self.temperature, self.flips = model, temperature, flips

    def forward(self, images: Tensor) -> Tensor:
        batch = normalise(images)
        if not self.flips:
            logits = self.model(batch)
            return torch.sigmoid(logits if self.temperature == 1 else logits / self.temperature)[:, 0]
        count = batch.shape[0]
        found = torch.sigmoid(self.model(torch.cat([batch.flip(axes) if axes else batch for axes in FLIPS])))[:, 0]
        parts = [found[place * count : (place + 1) * count].flip(axes) for place, axes in enumerate(FLIPS)]
        return tempered(sum(parts[1:], parts[0]) / len(FLIPS), self.temperature)


def export(segmenter: Segmenter, output: Path, images: Iterable[np.ndarray] | None = None) -> Agreement:
    """Writes the ONNX file, for any batch of images of one size, any size; returns how far both agree.

    segmenter: on the CPU. images: uint8 RGB (H, W, 3) of any sizes on which both are compared; drawn ones by default.
    Raises ValueError, and writes nothing, when ONNX Runtime does not agree with the model.
    """
    with placed(output) as partial:
        write(segmenter, partial)
        pictures = drawn(segmenter.image_size) if images is None else images
        agreement = compare(TorchModel(segmenter, ""), partial, pictures)
        agreement.require(str(output), strict=images is not None)
    return agreement


def export_smaller(segmenter: Segmenter, output: Path, form: str, images: Images) -> Row:
    """Writes the file as float16 or int8; returns what that costs in Dice.

    Raises ValueError, and writes nothing, when it may cost more than measure.MARGIN.
    """
    with placed(output) as partial:
        write(segmenter, partial, form)
        reduce(partial, form, images.calibration())
        models = {"float32": Ensemble([TorchModel(segmenter, "")]), form: Ensemble([OnnxModel(partial)])}
        row = measure(models, images.pairs(), images.groups)[1]
        row.require(str(output))
    return row


def export_packed(folder: Path) -> None:
    """A packed model's ONNX file, beside it: the same weights in float16, and so the same answers.

    Raises ValueError, and leaves no file, when ONNX Runtime does not agree with the model.
    """
    segmenter = Segmenter.load(folder, device="cpu")
    output = folder / bundled.GRAPH
    with placed(output) as partial:
        write(segmenter, partial, "float16")
        reduce(partial, "float16", ())
        compare(TorchModel(segmenter, ""), partial, drawn(segmenter.image_size)).require(str(output), strict=True)


@contextmanager
def placed(output: Path, ours: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """A path to write to; what lies there at the end takes the place of `output`, unless something was raised.

    ours: as `check_place` takes it; an ONNX file by default.
    """
    check_place(output, ours or is_onnx_of_ours)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:
        partial = Path(folder) / output.name
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(output)
    atomic.sync(output.parent)


def write(segmenter: Segmenter, path: Path, form: str = "float32") -> None:
    """The float32 file, compared with nothing.

    form: what it is to become. For float16 batch norms stay beside the weights, so that these are rounded as they are;
    ONNX Runtime brings both together when it opens the file.
    """
    import onnx

    from hymunet.portable import graph

    size = segmenter.image_size
    write_core(Portable(segmenter.model, segmenter.temperature, segmenter.flips), size, path, form != "float16")
    whole = graph.around(onnx.load(path), size, segmenter.threshold)
    graph.describe(whole, facts(segmenter))
    onnx.save(whole, path)


def facts(segmenter: Segmenter) -> dict[str, str]:
    """What the graph does not say, in the file's metadata."""
    return {
        "input": "images, uint8 (batch, height, width, 3) of any size, 0 to 255",
        "colours": "RGB",
        "output": "mask uint8 (batch, height, width) of 0 and 1, probability float32 of that shape, confidence (batch)",
        "image_size": str(segmenter.image_size),
        "threshold": repr(segmenter.threshold),
        "flips": f"{segmenter.flips}, averaged inside".lower(),
        "largest_region": f"{segmenter.largest_region}, left to the reader: mask holds every region".lower(),
        "temperature": f"{segmenter.temperature!r}, applied",
        "run_key": str(segmenter.info.get("run_key", "unknown")),
        WEIGHTS_KEY: segmenter.info["weights_sha256"],
        familiar.KEY: json.dumps(segmenter.info.get(familiar.KEY)),
        "use": USE,
    }


def drawn(size: int) -> Iterator[np.ndarray]:
    """Images that shrink, grow, halve and stay, to compare on where no real ones are given."""
    import cv2

    from hymunet.data.acquire.synthetic import draw

    for number, (height, width) in enumerate(((3, 4), (0.7, 0.9), (2, 2), (1, 1), (1.5, 0.5))):
        image = draw(number, 2 * size, 0)[0]
        yield cv2.resize(image, (max(1, round(width * size)), max(1, round(height * size))))


@contextmanager
def scans_by(model: nn.Module, backend: Callable[[Scans], str]) -> Iterator[None]:
    """backend: of each of the model's layers that scan, for as long as this lasts."""
    before = [(layer, layer.backend) for layer in scans(model)]
    for layer, _ in before:
        layer.backend = backend(layer)
    try:
        yield
    finally:
        for layer, own in before:
            layer.backend = own


def _fastest(layer: Scans) -> str:
    """The kernel's operator, which is translated; where it was not built, spelled out, which computes longer."""
    return choose_backend("auto", "cpu", torch.float32, layer.states)


def write_core(model: Portable, size: int, path: Path, joined: bool = True) -> None:
    """The model's own graph: `pixels` uint8 (batch, size, size, 3) -> `small` float32 (batch, size, size).

    joined: batch norms become part of the layers before them.
    """
    from onnxscript import optimizer

    from hymunet.portable.scan import translations

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of operators that we do not use
    with torch.no_grad(), scans_by(model, _fastest), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # torch's own, of its own code
        program = torch.onnx.export(
            model.eval(),
            (torch.zeros(2, size, size, 3, dtype=torch.uint8),),
            input_names=[CORE[0]],
            output_names=[CORE[1]],
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
            custom_translation_table=translations(),
            dynamo=True,
            optimize=joined,
            verbose=False,
        )
    assert program is not None
    if not joined:
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
    program.save(path, external_data=False)
