"""A trained model made to come with the package: weights in float16, their description, a card."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hymunet import atomic
from hymunet.bundled import CARD, DESCRIPTION, WEIGHTS

if TYPE_CHECKING:
    from hymunet.inference import Segmenter

STATISTICS = ("running_mean", "running_var")  # of batch norms: few, and a variance may be beyond float16


def pack(segmenter: Segmenter, target: Path, training: str, licence: str, scores: str) -> int:
    """Writes a model's folder, weights in float16 but for statistics, and a card; returns the bytes of the weights.

    It decides as the segmenter does: its threshold is the model's own, flips and temperature stand in the description.
    training, licence, scores: for the card, a sentence each. Raises ValueError for a weight that float16 cannot hold.
    """
    import safetensors.torch
    import torch

    weights: dict[str, Any] = {}
    for name, tensor in segmenter.model.state_dict().items():
        small = tensor.detach().cpu().contiguous()
        if small.is_floating_point() and not name.endswith(STATISTICS):
            small = small.to(torch.float16)
            if not small.isfinite().all():
                raise ValueError(f"{name} holds values beyond float16's 65504; this model cannot be bundled")
        weights[name] = small
    content = safetensors.torch.save(weights)
    info = {
        **segmenter.info,
        "threshold": segmenter.threshold,
        "flips": segmenter.flips,
        "largest_region": segmenter.largest_region,
        "temperature": segmenter.temperature,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "packed_from_sha256": segmenter.info["weights_sha256"],
    }
    atomic.write(target / WEIGHTS, content)
    atomic.write(target / CARD, _card(info, len(content), training, licence, scores))
    atomic.write(target / DESCRIPTION, json.dumps(info, indent=2, sort_keys=True) + "\n")
    return len(content)


def _card(info: dict[str, Any], size: int, training: str, licence: str, scores: str) -> str:
    model = info["model"]
    return f"""# The bundled model

For research use; not a medical device.

- **Model**: {model["name"]}, size {model.get("size", "-")}, seen at {info["image_size"]}×{info["image_size"]} pixels;
  a pixel is lesion where its probability exceeds {info["threshold"]:g}.
- **Training**: {training}
- **Scores**: {scores}
- **Licence**: {licence}
- **Weights**: float16, statistics of batch norms float32, {size / 1e6:.1f} MB, SHA-256 `{info["weights_sha256"]}`,
  from float32 weights of SHA-256 `{info["packed_from_sha256"]}`.
- **Data** SHA-256 `{info.get("data_sha256", "unknown")}`, **split** `{info.get("split_sha256", "unknown")}`,
  **run** `{info.get("run_key", "unknown")}`. Packed {datetime.now(UTC):%Y-%m-%d}.
"""
