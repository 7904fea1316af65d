"""SS2D, the selective scan over the four directions of a feature map, and the choice of the kernel that runs it."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

log = logging.getLogger("hymunet.ops")

KERNELS = ("cpu", "triton", "mamba_ssm")
"""Backends behind the custom op; `reference` and `export` are stock differentiable torch and need none."""
BACKENDS = ("auto", *KERNELS, "reference", "export")
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
KERNEL_MAX_STATES = 16
AUTO_ORDER = {"cpu": ("cpu",), "cuda": ("triton", "mamba_ssm")}


def ss2d(
    x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor, *, backend: str = "auto"
) -> Tensor:
    """Selective scan of a map in four directions, summed (paper, equations 1-3 and 6).

    Per direction k, over the steps t of its walk, with delta_k[t] = softplus(dt_weight_k @ dt_k[t] + dt_bias_k):

        h[t] = exp(delta_k[t] * A_k) * h[t-1] + delta_k[t] * B_k[t] * x[t],     y_k[t] = C_k[t] . h[t] + D_k * x[t]

    The state matrix is discretised by zero-order hold (equation 3); B by delta * B, its first-order form, as in Mamba.
    Directions: rows from the top-left corner, the reverse, columns from the top-right corner, the reverse.

    Args:
        x: (B, H, W, C) feature map, float32, bfloat16 or float16; float64 with `reference` and `export`.
        proj: (B, H, W, 4, R + 2N), x's dtype: per direction the low-rank step dt (R), B (N) and C (N).
        A: (4, C, N), negative. dt_weight: (4, C, R). dt_bias, D: (4, C). All float32, or float64 with x.
        backend: one of `BACKENDS`; `auto` takes the fastest that works on x's device and says which, once.

    Returns: (B, H, W, C) in x's dtype. The state and every sum are float32 (float64 for float64 x).

    Raises: ValueError for shapes, types or sizes that no backend, or not the one asked for, can take.
    """
    _check(x, proj, A, dt_weight, dt_bias, D, backend)
    name = choose_backend(backend, x.device.type, x.dtype, A.shape[-1])
    if name in KERNELS:
        inputs = (x, proj, A, dt_weight, dt_bias, D)
        keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
        return torch.ops.hymunet.ss2d(*inputs, name, keep)[0]
    return _module(name).ss2d(x, proj, A, dt_weight, dt_bias, D)


def choose_backend(backend: str, device_type: str, dtype: torch.dtype, states: int) -> str:
    """The backend that will run, with `auto` resolved; ValueError with the remedy when `backend` cannot run here."""
    if device_type == "meta":
        return KERNELS[0]  # shapes alone, which a kernel that was not built has, too
    if backend in KERNELS:
        if reason := _refusal(backend, device_type, dtype, states):
            raise ValueError(f"backend {backend!r} cannot run this scan: {reason}; use backend='auto' or 'export'")
        return backend
    if backend != "auto":
        return backend
    reasons = []
    for name in AUTO_ORDER.get(device_type, ()):
        reason = _refusal(name, device_type, dtype, states)
        if reason is None:
            _say_once(logging.INFO, f"selective scan on {device_type}: {name} backend")
            return name
        reasons.append(f"{name}: {reason}")
    why = "; ".join(reasons) or f"no kernel for device type {device_type}"
    _say_once(logging.WARNING, f"selective scan on {device_type}: slow export backend, because of {why}")
    return "export"


# The compiler calls it once and keeps the answer. torch.compiler.assume_constant_result sets this same mark, but
# imports the whole compiler to do so, for which those who never compile would wait.
choose_backend._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _refusal(name: str, device_type: str, dtype: torch.dtype, states: int) -> str | None:
    if dtype not in KERNEL_DTYPES:
        return f"{dtype} is not one of float32, bfloat16, float16"
    if states > KERNEL_MAX_STATES:
        return f"{states} states per channel, at most {KERNEL_MAX_STATES} are supported"
    return _module(name).unavailable(device_type)


_said: set[str] = set()


def _say_once(level: int, message: str) -> None:
    if message in _said:
        return
    _said.add(message)
    log.log(level, message)
    if level >= logging.WARNING:
        warnings.warn(message, RuntimeWarning, stacklevel=4)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"hymunet.ops.{name}")


def _check(x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor, backend: str) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"unknown scan backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    if x.dim() != 4 or A.dim() != 3 or dt_weight.dim() != 3:
        raise ValueError(
            f"ss2d takes x (B, H, W, C), A (4, C, N), dt_weight (4, C, R); got "
            f"{tuple(x.shape)}, {tuple(A.shape)}, {tuple(dt_weight.shape)}"
        )
    B, H, W, C = x.shape
    N, R = A.shape[2], dt_weight.shape[2]
    if any(size < 1 for size in (*x.shape, N, R)):  # not min(): with symbolic sizes it would order them
        raise ValueError(
            f"ss2d needs at least one image, pixel, channel, state and rank; got x {tuple(x.shape)}, N={N}, R={R}"
        )
    expected = {
        "proj": (proj, (B, H, W, 4, R + 2 * N)),
        "A": (A, (4, C, N)),
        "dt_weight": (dt_weight, (4, C, R)),
        "dt_bias": (dt_bias, (4, C)),
        "D": (D, (4, C)),
    }
    parameter_dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if x.dtype not in (*KERNEL_DTYPES, torch.float64):
        raise ValueError(f"ss2d takes float32, bfloat16, float16 or float64; x is {x.dtype}")
    for name, (tensor, shape) in expected.items():
        if tensor.shape != shape:
            raise ValueError(f"ss2d: {name} is {tuple(tensor.shape)}, expected {shape} for x {tuple(x.shape)}")
        dtype = x.dtype if name == "proj" else parameter_dtype
        if tensor.dtype != dtype:
            raise ValueError(f"ss2d: {name} is {tensor.dtype}, expected {dtype} for x in {x.dtype}")
        if tensor.device != x.device:
            raise ValueError(f"ss2d: {name} is on {tensor.device}, x on {x.device}")


def _operator(name: str, function: Callable) -> None:
    """Registers it without torch.library.custom_op, whose first call imports the compiler."""
    schema = torch.library.infer_schema(function, mutates_args=())
    torch.library.define(name, schema, tags=torch.Tag.pt2_compliant_tag)
    torch.library.impl(name, "default", function)


def _forward(
    x: Tensor, proj: Tensor, A: Tensor, dt_weight: Tensor, dt_bias: Tensor, D: Tensor, backend: str, keep: bool
) -> tuple[Tensor, Tensor]:
    y, states = _module(backend).forward(x, proj, A, dt_weight, dt_bias, D, keep=keep)
    return y.contiguous(), states  # the strides that the stand-in below names, by which compiled code reads it


_operator("hymunet::ss2d", _forward)


@torch.library.register_fake("hymunet::ss2d")
def _(x, proj, A, dt_weight, dt_bias, D, backend, keep):
    shape = _module(backend).state_shape(*x.shape, A.shape[-1]) if keep else 0
    return x.new_empty(x.shape), x.new_empty(shape, dtype=torch.float32)


def _backward(
    grad_y: Tensor,
    states: Tensor,
    x: Tensor,
    proj: Tensor,
    A: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    D: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    gradients = _module(backend).backward(grad_y, states, x, proj, A, dt_weight, dt_bias, D)
    return tuple(gradient.contiguous() for gradient in gradients)  # type: ignore[return-value]


_operator("hymunet::ss2d_backward", _backward)


@torch.library.register_fake("hymunet::ss2d_backward")
def _(grad_y, states, x, proj, A, dt_weight, dt_bias, D, backend):
    return tuple(t.new_empty(t.shape) for t in (x, proj, A, dt_weight, dt_bias, D))


def _save(ctx, inputs, output) -> None:
    *tensors, ctx.backend, keep = inputs
    assert keep, "no gradient without the states that the forward keeps"
    ctx.save_for_backward(output[1], *tensors)
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad_y, grad_states):
    if grad_y is None:
        return (None,) * 8
    return (*torch.ops.hymunet.ss2d_backward(grad_y, *ctx.saved_tensors, ctx.backend), None, None)


torch.library.register_autograd("hymunet::ss2d", _differentiate, setup_context=_save)
