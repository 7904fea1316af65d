"""The model as a package of torch.export: for programs in torch, or compiled from it, without this package."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hymunet.inference import Segmenter
from hymunet.portable import export
from hymunet.portable.agreement import TOLERANCE
from hymunet.portable.target import FACTS, is_program_of_ours
from hymunet.prediction.segmenter import TorchModel

SHAPES = {
    "input": "images, uint8 (batch, S, S, 3) where S is image_size, 0 to 255",
    "output": "probability float32 (batch, S, S)",
    "threshold": "not applied: a pixel is lesion where its probability exceeds it",
}


def write(segmenter: Segmenter, output: Path) -> float:
    """Writes the package, for any batch; returns the largest difference of a probability to the model's.

    The scans become torch's own operators, so that nothing else is needed to load it. segmenter: on the CPU.
    Raises ValueError, and writes nothing, when what is read back does not agree with the model.
    """
    size = segmenter.image_size
    pictures = np.stack([TorchModel(segmenter, "").prepare(image) for image in export.drawn(size)])
    with export.placed(output, is_program_of_ours) as partial:
        _save(segmenter, partial)
        found = torch.export.load(partial).module()(torch.from_numpy(pictures)).detach().numpy()
        difference = float(np.abs(found - segmenter.probabilities(pictures)).max())
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{output}: read back, it differs from the model by {difference:.2g} of a probability; "
                "nothing was written"
            )
    return difference


def _save(segmenter: Segmenter, path: Path) -> None:
    size = segmenter.image_size
    model = export.Portable(segmenter.model, segmenter.temperature, segmenter.flips).eval()
    facts = {**export.facts(segmenter), **SHAPES, "threshold": f"{segmenter.threshold!r}, {SHAPES['threshold']}"}
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with torch.no_grad(), export.scans_by(model, lambda layer: "export"):
        program = torch.export.export(
            model, (example,), dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}}
        )
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            _forget_lines(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that are views of others
        torch.export.save(program, path, extra_files={FACTS: json.dumps(facts)})


def _forget_lines(module: nn.Module) -> None:
    """Which lines of which files on this machine made each node."""
    for node in module.graph.nodes:  # type: ignore[union-attr]
        node.meta.pop("stack_trace", None)
