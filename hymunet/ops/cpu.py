"""The scan on the CPU: C++ kernels (csrc/) behind a plain C ABI, built at install and loaded with ctypes."""

from __future__ import annotations

import ctypes
import functools
import logging
from pathlib import Path

import torch
from torch import Tensor

log = logging.getLogger("hymunet.ops")

LIBRARY = Path(__file__).with_name("_scan_cpu.so")
ABI = 2  # csrc/dispatch.cpp: hymunet_abi
INSTRUCTION_SETS = ("avx512", "avx2", "generic")
"""Fastest first; `generic` is the baseline of the architecture (SSE2 on x86-64, NEON on arm64)."""
CHANNELS, BLOCK, STATE_PAD = 16, 32, 4  # csrc/scan.h: kChannels, kBlock, kStatePad
_DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


class _Scan(ctypes.Structure):
    """csrc/scan.h: Scan."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "height", "width", "channels", "states", "rank")),
        ("dtype", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("gomp_parallel", "x", "proj", "a", "dt_weight", "dt_bias", "skip", "y", "saved"),
                *("grad_y", "grad_x", "grad_proj", "grad_a", "grad_dt_weight", "grad_dt_bias", "grad_skip"),
                *("partial_proj", "partial_params"),
            )
        ),
    ]


def unavailable(device_type: str) -> str | None:
    """None where the kernel can run, else the reason and the remedy in one line."""
    if device_type != "cpu":
        return f"the cpu kernel cannot run on {device_type}"
    try:
        _library()
    except OSError as error:
        return str(error)
    return None


def instruction_sets() -> tuple[str, ...]:
    """Those of `INSTRUCTION_SETS` that were built and that this CPU has, fastest first."""
    return tuple(isa for isa in INSTRUCTION_SETS if _library().hymunet_supports(isa.encode()))


def state_shape(B: int, H: int, W: int, C: int, N: int) -> tuple[int, ...]:
    """States kept for the backward: the one that enters each block of `BLOCK` tokens but the first."""
    blocks = (H * W + BLOCK - 1) // BLOCK - 1
    return B, 4, blocks, (C + CHANNELS - 1) // CHANNELS, (N + STATE_PAD - 1) // STATE_PAD * STATE_PAD, CHANNELS


def forward(
    x: Tensor,
    proj: Tensor,
    A: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    D: Tensor,
    *,
    keep: bool = True,
    isa: str | None = None,
) -> tuple[Tensor, Tensor]:
    """y and the kept states, none without `keep`; `isa` is one of `instruction_sets()`, by default the first."""
    tensors = _contiguous(x=x, proj=proj, a=A, dt_weight=dt_weight, dt_bias=dt_bias, skip=D)
    tensors["y"] = torch.empty_like(tensors["x"])
    B, H, W, C = x.shape
    states = x.new_empty(state_shape(B, H, W, C, A.shape[2]) if keep else 0, dtype=torch.float32)
    if keep:
        tensors["saved"] = states
    _run(_library().hymunet_forward, _scan(tensors), isa)
    return tensors["y"], states


def backward(grad_y: Tensor, states: Tensor, *inputs: Tensor, isa: str | None = None) -> tuple[Tensor, ...]:
    """Gradients of `forward`'s six inputs, given the states that it kept."""
    names = ("x", "proj", "a", "dt_weight", "dt_bias", "skip")
    tensors = _contiguous(grad_y=grad_y, **dict(zip(names, inputs, strict=True)))
    grads = {f"grad_{name}": torch.empty_like(tensors[name]) for name in names}
    scan = _scan(tensors | grads | {"saved": states})
    groups = _library().hymunet_groups(ctypes.byref(scan))
    x, proj = tensors["x"], tensors["proj"]
    whole = groups == 1 and x.dtype == torch.float32
    partial_proj = grads["grad_proj"] if whole else x.new_empty((groups, *proj.shape), dtype=torch.float32)
    columns = scan.states + scan.rank + 2
    partial_params = x.new_empty((x.shape[0], 4, x.shape[3], columns), dtype=torch.float32)
    scan.partial_proj, scan.partial_params = partial_proj.data_ptr(), partial_params.data_ptr()
    _run(_library().hymunet_backward, scan, isa)
    return tuple(grads.values())


def peak_updates(rounds: int, isa: str | None = None) -> float:
    """Runs the bare inner loop on first-cache data on the calling thread; the number of state updates it made."""
    return _library().hymunet_peak(_isa(isa), rounds)


def _contiguous(**tensors: Tensor) -> dict[str, Tensor]:
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            log.debug("selective scan: copying %s, whose strides %s are not contiguous", name, tensor.stride())
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _scan(tensors: dict[str, Tensor]) -> _Scan:
    return _Scan(
        *(*tensors["x"].shape, tensors["a"].shape[2], tensors["dt_weight"].shape[2]),
        dtype=_DTYPES[tensors["x"].dtype],
        threads=torch.get_num_threads(),
        gomp_parallel=_gomp_parallel(),
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
    )


def _isa(isa: str | None) -> bytes:
    available = instruction_sets()
    if isa is not None and isa not in available:
        raise ValueError(f"this CPU has no {isa} kernel; choose one of {', '.join(available)}")
    return (isa or available[0]).encode()


def _run(kernel: ctypes._NamedFuncPointer, scan: _Scan, isa: str | None) -> None:
    if kernel(_isa(isa), ctypes.byref(scan)):
        raise MemoryError("selective scan: no memory for the working set of a thread")


@functools.cache
def _library() -> ctypes.CDLL:
    """OSError with the remedy when the library was not built, or was built from other sources."""
    remedy = "install a C++ compiler (g++ or clang++) and run `pip install -e .` (or reinstall the package)"
    if not LIBRARY.exists():
        raise OSError(f"the C++ kernel was not built; {remedy}")
    library = ctypes.CDLL(str(LIBRARY))
    if library.hymunet_abi() != ABI:
        raise OSError(f"{LIBRARY.name} was built from other sources; {remedy}")
    library.hymunet_groups.restype = ctypes.c_int64
    library.hymunet_peak.restype = ctypes.c_double
    library.hymunet_peak.argtypes = [ctypes.c_char_p, ctypes.c_int64]
    return library


@functools.cache
def _gomp_parallel() -> int | None:
    """The entry point of the OpenMP runtime that torch has loaded, so that one pool of threads serves both.

    None where it cannot be found; the kernel then starts plain threads for each call.
    """
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError):
        return None
