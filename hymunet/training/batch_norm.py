"""Batch norm takes a variance over a batch: of one value there is none, which torch would say in the first step."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hymunet import params


def require_statistics(
    model: nn.Module, image_size: int, model_params: params.Model, train: params.Train, ranks: int
) -> None:
    """Raises ValueError for a model with a batch norm that would see one value a channel in training.

    That is where a step's part of the batch is one image and a feature map of it 1×1. The model, on its device, is as
    it was afterwards.
    """
    if train.batch_size // (ranks * train.accumulate) > 1 or (train.sync_batch_norm and ranks > 1):
        return
    single: list[str] = []

    def look(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if inputs[0].numel() == inputs[0].shape[1]:
            single.append(names[module])

    names: dict[nn.Module, str] = {part: name for name, part in model.named_modules() if isinstance(part, _BatchNorm)}
    hooks = [part.register_forward_pre_hook(look) for part in names]
    was, device = model.training, next(model.parameters()).device
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    finally:
        model.train(was)
        for hook in hooks:
            hook.remove()
    if single:
        ranked = f"{ranks} ranks × " if ranks > 1 else ""
        raise ValueError(
            f"train.batch_size {train.batch_size} in {ranked}train.accumulate {train.accumulate} parts is one image a "
            f"part, and at {image_size} pixels {len(single)} batch norms of {model_params.name} (the first: "
            f"{single[0]}) see one value of it; raise train.batch_size to {2 * ranks * train.accumulate}, lower "
            "train.accumulate, or raise prepare.image_size"
        )
