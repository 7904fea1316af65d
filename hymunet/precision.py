"""Which floating-point type a model computes in, and where bfloat16 is in the hardware."""

import warnings
from functools import cache
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bf16"]


def computes_in_bfloat16(device: torch.device) -> bool:
    """True where the hardware multiplies bfloat16 faster than float32; elsewhere it is emulated, ten times slower.

    On processors that is where there are matrix tiles (AMX), or AVX-512's instructions for it on one of AMD. On one of
    Intel without tiles those instructions take half as long again as float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.cpu._is_amx_tile_supported():
        return True
    return torch.cpu._is_avx512_bf16_supported() and processor_vendor() == "AuthenticAMD"


@cache
def processor_vendor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """As the processor names it, `GenuineIntel`; empty where the system does not say."""
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """bfloat16, or None for plain float32; auto: bfloat16 where the hardware computes in it."""
    native = computes_in_bfloat16(device)
    if precision == "bf16" and not native:
        warnings.warn(f"precision bf16: {device.type} only emulates bfloat16 here; auto would be faster")
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and native) else None
