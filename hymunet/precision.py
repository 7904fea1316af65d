"""Which floating-point type a model computes in, and where bfloat16 is in the hardware."""

import warnings
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bf16"]


def computes_in_bfloat16(device: torch.device) -> bool:
    """True where the hardware multiplies bfloat16; elsewhere it is emulated, ten times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """bfloat16, or None for plain float32; auto: bfloat16 where the hardware computes in it."""
    native = computes_in_bfloat16(device)
    if precision == "bf16" and not native:
        warnings.warn(f"precision bf16: {device.type} only emulates bfloat16 here; auto would be faster")
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and native) else None
