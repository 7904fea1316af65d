"""The training's tensors by name, for a checkpoint and back. Names depend on no rank, wrapper or memory format."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hymunet.models.protocols import undecayed

Tensors = dict[str, Tensor]


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def snapshot(model: nn.Module) -> Tensors:
    """A copy of the weights on the CPU."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> Tensors:
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{kind}.{names[parameter]}": tensor
        for parameter, state in optimizer.state.items()
        for kind, tensor in state.items()
    }


def restore_optimizer(optimizer: Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Puts every tensor where AdamW would have made it: moments in the memory format of their parameter, which the
    fused kernel relies on."""
    for name, parameter in model.named_parameters():
        state = {}
        for kind in ("step", "exp_avg", "exp_avg_sq"):
            saved = tensors[f"{kind}.{name}"]
            if kind == "step":
                state[kind] = saved.to(parameter.device)
            else:
                state[kind] = torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(saved)
        optimizer.state[parameter] = state


def create_moments(optimizer: Optimizer) -> None:
    """AdamW's state as its first step would make it, for a graph that must find it where it stays."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter not in optimizer.state:
                moments = {
                    kind: torch.zeros_like(parameter, memory_format=torch.preserve_format)
                    for kind in ("exp_avg", "exp_avg_sq")
                }
                optimizer.state[parameter] = {"step": torch.zeros((), device=parameter.device), **moments}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Decay for the weights of convolutions and linear maps; none for norms, biases and what a layer spares."""
    spared = undecayed(model)
    decayed = [parameter for parameter in model.parameters() if parameter not in spared]
    free = [parameter for parameter in model.parameters() if parameter in spared]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


class BatchNormGuard:
    """Takes back what a step did to the running statistics when its loss was not finite, without asking the host."""

    def __init__(self, model: nn.Module) -> None:
        self.buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.sizes = [buffer.numel() for buffer in self.buffers]
        self.kept = self._flat()

    @torch.no_grad()
    def keep(self, good: Tensor) -> None:
        """good: bool scalar on the device."""
        if not self.buffers:
            return
        self.kept.copy_(torch.where(good, self._flat(), self.kept))
        views = [part.view_as(buffer) for part, buffer in zip(self.kept.split(self.sizes), self.buffers, strict=True)]
        torch._foreach_copy_(self.buffers, views)

    def _flat(self) -> Tensor:
        return torch.cat([buffer.flatten() for buffer in self.buffers]) if self.buffers else torch.empty(0)
