"""A model on disk: `model.safetensors` and `model.json`. Nothing here needs pickle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hymunet import atomic
from hymunet.models.catalogue import build, section

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hymunet.models.spec import ModelSection

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


def save(model: nn.Module, info: dict[str, Any], folder: str | Path) -> None:
    """Writes weights and description, each atomically, the description last: a folder with one is whole.

    info: at least `model` (the params section as a dict), `image_size` and `threshold`; the weights' hash is added.
    """
    import safetensors.torch

    folder = Path(folder)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = safetensors.torch.save(weights)
    info = {**info, "weights_sha256": hashlib.sha256(content).hexdigest()}
    atomic.write(folder / WEIGHTS, content)
    atomic.write(folder / DESCRIPTION, json.dumps(info, indent=2, sort_keys=True) + "\n")


def load(folder: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """The model in evaluation mode, channels-last, on `device`, and its description.

    Raises ValueError naming the file when it is missing, damaged or of another architecture.
    """
    import safetensors.torch
    import torch

    folder = Path(folder)
    try:
        info = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        model = build(_known(info), info["image_size"])
        content = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(content).hexdigest() != info.get("weights_sha256"):
            raise ValueError(f"{WEIGHTS} are not the weights that {DESCRIPTION} describes")
        model.load_state_dict(safetensors.torch.load(content))
    except FileNotFoundError as error:
        missing = error.filename or folder / WEIGHTS  # safetensors names no file
        raise ValueError(f"{missing}: no such file; train a model first, or name its folder") from None
    except (json.JSONDecodeError, KeyError, safetensors.SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{folder}: not a readable model: {' '.join(str(error).split())[:500]}") from None
    return model.to(device).to(memory_format=torch.channels_last).eval(), info  # type: ignore[call-overload]


def _known(info: Any) -> ModelSection:
    named = isinstance(info, dict) and isinstance(info.get("model"), dict) and "name" in info["model"]
    if not named or not isinstance(info.get("image_size"), int):
        raise ValueError(f"{DESCRIPTION} names no model with its image_size; replace it by a whole copy")
    try:
        return section(info["model"])
    except ValueError as error:
        raise ValueError(
            f"{DESCRIPTION} is of another version of this program, such as a newer one; update it, install the package "
            f"that the model is of, or train the model again ({error})"
        ) from None
