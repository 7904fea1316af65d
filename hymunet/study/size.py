"""How large a model is, and how fast: parameters, multiply-accumulates, images a second."""

import time
from typing import Any

import torch
from torch import nn

from hymunet import models, params
from hymunet.models.layers.resampling import Bilinear
from hymunet.models.protocols import scans

BATCHES = (1, 24)
SECONDS, LEAST = 0.5, 3  # how long, and how many passes, a rate is measured at least


def counts(section: params.Model, image_size: int) -> dict[str, Any]:
    """`parameters`, and `gmacs`: multiply-accumulates of one image, 1e9, of convolutions and matrix products.

    Scans and bilinear resizing are apart. Nothing is computed: tensors here have shapes alone.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = models.build(section, image_size).eval()
        for layer in scans(model):
            layer.backend = "auto"
        model(torch.empty(1, 3, image_size, image_size))
    resizing = {key for key, module in model.named_modules() if isinstance(module, Bilinear)}
    flops = counter.get_flop_counts()
    apart = sum(sum(found.values()) for key, found in flops.items() if key.partition(".")[2] in resizing)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "gmacs": round((counter.get_total_flops() - apart) / 2e9, 4)}


@torch.inference_mode()
def inference_rates(model: nn.Module, image_size: int) -> dict[str, float]:
    """Images a second in float32, by batch size, on the device that the model is on."""
    device = next(model.parameters()).device
    rates = {}
    for size in BATCHES:
        batch = torch.zeros(size, 3, image_size, image_size, device=device).contiguous(
            memory_format=torch.channels_last
        )
        model(batch)
        _finish(device)
        start, passes = time.monotonic(), 0
        while passes < LEAST or time.monotonic() - start < SECONDS:
            model(batch)
            _finish(device)
            passes += 1
        rates[str(size)] = round(size * passes / (time.monotonic() - start), 1)
    return rates


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
