"""The CPU peers of the scan, on the same numbers: each gets the four walks laid out and the step already expanded.

That is work `hymunet.ops.ss2d` does itself, within the time that is measured; the peers' layout is not timed.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hymunet.ops import export, ss2d
from hymunet.ops.reference import direction_order

Scan = Callable[..., Tensor]
Arguments = list[Tensor]


def problem(B: int, H: int, W: int, C: int, R: int, N: int) -> Arguments:
    """Arguments of `ss2d` in the range a trained model shows: A near -1..-N, steps of about 0.05."""
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    A = -torch.arange(1, N + 1).float() * (1 + 0.1 * normal(4, C, N)).abs()
    return [
        normal(B, H, W, C),
        0.5 * normal(B, H, W, 4, R + 2 * N),
        A,
        0.3 * normal(4, C, R),
        normal(4, C) - 3,
        normal(4, C),
    ]


def walks(x: Tensor, proj: Tensor, A: Tensor, w: Tensor, bias: Tensor, D: Tensor) -> Arguments:
    """u and raw delta (B, 4, C, L), A (4, C, N), b and c (B, 4, N, L), D and bias (4, C)."""
    H, W = x.shape[1:3]
    orders = [direction_order(H, W, k) for k in range(4)]
    u = torch.stack([x.flatten(1, 2)[:, order].mT for order in orders], dim=1)
    rows = torch.stack([proj[:, :, :, k].flatten(1, 2)[:, order].mT for k, order in enumerate(orders)], dim=1)
    dt, b, c = rows.split([w.shape[2], A.shape[2], A.shape[2]], dim=2)
    return [t.contiguous() for t in (u, w @ dt, A, b, c, D, bias)]


def merge(y: Tensor, H: int, W: int) -> Tensor:
    """(B, 4, C, L) along the walks -> (B, H, W, C): what `ss2d` returns, to check a peer against it."""
    merged = torch.zeros_like(y[:, 0])
    for k in range(4):
        merged = merged.index_add(2, direction_order(H, W, k), y[:, k])
    return merged.mT.unflatten(1, (H, W))


def _mamba_ssm() -> Scan:
    """The package's Python `selective_scan_ref`; its GPU modules, which a CPU machine cannot import, are stubbed."""
    spec = importlib.util.find_spec("mamba_ssm")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("mamba_ssm is not installed (MAMBA_SKIP_CUDA_BUILD=TRUE pip install --no-deps mamba-ssm)")
    package = types.ModuleType("mamba_ssm")
    package.__path__ = [str(Path(place)) for place in spec.submodule_search_locations]
    layer_norm = types.ModuleType("mamba_ssm.ops.triton.layer_norm")
    layer_norm._layer_norm_fwd = None  # type: ignore[attr-defined]
    stubs = {"mamba_ssm": package, layer_norm.__name__: layer_norm, "selective_scan_cuda": types.ModuleType("stub")}
    if importlib.util.find_spec("einops") is None:
        raise ImportError("mamba_ssm needs einops, which is not installed (pip install einops)")
    sys.modules.update(stubs)
    from mamba_ssm.ops.selective_scan_interface import selective_scan_ref

    def scan(u: Tensor, delta: Tensor, A: Tensor, b: Tensor, c: Tensor, D: Tensor, bias: Tensor) -> Tensor:
        flat = selective_scan_ref(
            *(u.flatten(1, 2), delta.flatten(1, 2), A.flatten(0, 1), b, c, D.flatten()),
            delta_bias=bias.flatten(),
            delta_softplus=True,
        )
        return flat.view_as(u)

    return scan


def _by_prefix(prefix: Callable[[Tensor, Tensor], Tensor]) -> Scan:
    """A scan from a function that solves h[l] = decay[l] * h[l - 1] + add[l] over (B * 4, L, C, N)."""

    def scan(u: Tensor, delta: Tensor, A: Tensor, b: Tensor, c: Tensor, D: Tensor, bias: Tensor) -> Tensor:
        step = softplus(delta + bias[..., None]).mT
        decay = torch.exp(step[..., None] * A[:, None])
        add = (step * u.mT)[..., None] * b.mT[:, :, :, None]
        h = prefix(decay.flatten(0, 1), add.flatten(0, 1)).view_as(decay)
        return (h * c.mT[:, :, :, None]).sum(-1).mT + D[..., None] * u

    return scan


def _associative_scan() -> Scan:
    from torch._higher_order_ops import associative_scan

    def combine(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return left[0] * right[0], left[1] * right[0] + right[1]

    return _by_prefix(lambda decay, add: associative_scan(combine, (decay, add), dim=1, combine_mode="generic")[1])


def _mambapy() -> Scan:
    try:
        from mambapy.pscan import pscan
    except ImportError:
        raise ImportError("mambapy is not installed (pip install --no-deps mambapy)") from None
    return _by_prefix(pscan)


PEERS: dict[str, Callable[[], Scan]] = {
    "mamba_ssm selective_scan_ref": _mamba_ssm,
    "associative_scan": _associative_scan,
    "associative_scan compiled": lambda: torch.compile(_associative_scan(), fullgraph=True),
    "mambapy pscan": _mambapy,
    "hymunet export": lambda: export.ss2d,
    "hymunet cpu": lambda: lambda *arguments: ss2d(*arguments, backend="cpu"),
}
"""Name -> a function that loads the peer, or raises ImportError saying how to get it."""


def arguments(name: str, shape: tuple[int, ...]) -> Arguments:
    inputs = problem(*shape)
    return inputs if name.startswith("hymunet") else walks(*inputs)
