"""SS2D around the CUDA scan of the package mamba-ssm (extra `cuda`): cross-scan, its kernel, cross-merge.

The package's kernel walks one sequence, so the four walks are laid out in memory, as VMamba does. Its gradients add
with atomics: they differ in the last bits from run to run, which the `triton` backend's do not.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from hymunet.ops.reference import DIRECTIONS, direction_order

REMEDY = (
    "MAMBA_KEEP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE pip install --no-build-isolation --no-binary mamba-ssm mamba-ssm"
)


@cache
def unavailable(device_type: str) -> str | None:
    """None when this backend runs on `device_type`, else why not and what to do."""
    if device_type != "cuda":
        return f"mamba-ssm's scan is a CUDA kernel, the tensors are on {device_type}"
    try:
        _kernel()
    except ImportError as error:
        if _installed():
            return f"this build of mamba-ssm has no working CUDA scan ({error}); rebuild it with {REMEDY}"
        return f"the package mamba-ssm is not installed; pip install 'hymunet[cuda]', built with {REMEDY}"
    return None


def state_shape(B: int, H: int, W: int, C: int, N: int) -> tuple[int, ...]:
    """The kernel's own checkpoints: running decay and state of every chunk of 2,048 steps."""
    return (B, DIRECTIONS * C, -(-H * W // 2048), 2 * N)


def forward(
    x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor, *, keep: bool = True
) -> tuple[Tensor, Tensor]:
    """y and the kernel's checkpoints; it makes them always, and without `keep` they are let go."""
    order = _orders(x)
    u, delta, b, c = _lay_out(x, proj, dt_weight, A.shape[-1], order)
    y, states, *_ = _kernel().fwd(u, delta, A.flatten(0, 1), b, c, D.flatten(), None, dt_bias.flatten(), True)
    return _merge(y, x, order).to(x.dtype), states if keep else states.new_empty(0)


def backward(grad_y: Tensor, states: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradients of `forward`'s six inputs, given the checkpoints that it kept."""
    x, proj, A, dt_weight, dt_bias, D = inputs
    B, H, W, C = x.shape
    R = dt_weight.shape[-1]
    order = _orders(x)
    u, delta, b, c = _lay_out(x, proj, dt_weight, A.shape[-1], order)
    grad = _walks(grad_y, order)
    du, ddelta, dA, db, dc, dD, dbias, *_ = _kernel().bwd(
        u, delta, A.flatten(0, 1), b, c, D.flatten(), None, dt_bias.flatten(), grad, states, None, None, True, False
    )
    ddelta = ddelta.view(B, DIRECTIONS, C, H * W).float()
    dt = proj[..., :R].reshape(B, H * W, DIRECTIONS, R)
    along = torch.stack([dt[:, order[k], k] for k in range(DIRECTIONS)], dim=1).float()
    ddt = torch.einsum("bkcl,kcr->bklr", ddelta, dt_weight)
    rows = torch.cat([ddt, db.float().transpose(2, 3), dc.float().transpose(2, 3)], dim=-1)
    dproj = torch.stack([rows[:, k, order[k].argsort()] for k in range(DIRECTIONS)], dim=2)
    return (
        _merge(du, x, order).to(x.dtype),
        dproj.reshape(proj.shape).to(proj.dtype),
        dA.view(A.shape),
        torch.einsum("bkcl,bklr->kcr", ddelta, along),
        dbias.view(dt_bias.shape),
        dD.view(D.shape),
    )


@cache
def _kernel() -> ModuleType:
    """The package's extension module. Its Python front end is left alone: it imports much that the scan needs not."""
    return importlib.import_module("selective_scan_cuda")


def _installed() -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        version("mamba-ssm")
    except PackageNotFoundError:
        return False
    return True


def _orders(x: Tensor) -> list[Tensor]:
    return [direction_order(x.shape[1], x.shape[2], k, x.device) for k in range(DIRECTIONS)]


def _walks(image: Tensor, order: list[Tensor]) -> Tensor:
    """(B, H, W, C) -> (B, 4 * C, H * W): the channels of each walk, its steps last."""
    flat = image.flatten(1, 2).transpose(1, 2)
    return torch.cat([flat[:, :, o] for o in order], dim=1)


def _merge(walks: Tensor, x: Tensor, order: list[Tensor]) -> Tensor:
    """The inverse of `_walks`, summed over the directions in float32: (B, H, W, C)."""
    B, H, W, C = x.shape
    walks = walks.view(B, DIRECTIONS, C, H * W)
    total = torch.stack([walks[:, k, :, order[k].argsort()].float() for k in range(DIRECTIONS)]).sum(0)
    return total.transpose(1, 2).reshape(B, H, W, C)


def _lay_out(
    x: Tensor, proj: Tensor, dt_weight: Tensor, N: int, order: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the kernel takes: u and delta (B, 4 * C, L), B and C (B, 4, N, L)."""
    B, H, W, _ = x.shape
    rows = proj.reshape(B, H * W, DIRECTIONS, -1)
    walked = torch.stack([rows[:, order[k], k] for k in range(DIRECTIONS)], dim=1).transpose(2, 3)
    dt, b, c = walked.split([dt_weight.shape[-1], N, N], dim=2)
    delta = torch.einsum("bkrl,kcr->bkcl", dt.float(), dt_weight).flatten(1, 2).to(x.dtype)
    return _walks(x, order), delta, b.contiguous(), c.contiguous()
