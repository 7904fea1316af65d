"""The GPU peers of the scan: mamba-ssm's CUDA kernel alone, and in the chain VMamba builds around it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


class Peers:
    """Both peers over one build of mamba-ssm's `selective_scan_cuda`."""

    def __init__(self, kernel: ModuleType) -> None:
        self.kernel = kernel

    @classmethod
    def load(cls, source: Path | None) -> Peers:
        """From an unpacked source distribution, or the installed package. Raises ImportError when there is neither."""
        if source is None:
            import selective_scan_cuda

            return cls(selective_scan_cuda)
        return cls(_build(source / "csrc" / "selective_scan"))

    @staticmethod
    def chain_arguments(x: Tensor, proj: Tensor, A: Tensor, w: Tensor, bias: Tensor, D: Tensor) -> list[Tensor]:
        """The same scan in the layouts VMamba holds: x (B, C, H, W), proj (B, 4, R + 2N, H*W) along each walk."""
        rows = proj.flatten(1, 2).permute(0, 2, 3, 1).contiguous()
        return [x.permute(0, 3, 1, 2).contiguous(), rows, A.flatten(0, 1), w.to(x.dtype), bias.flatten(), D.flatten()]

    def chain(self, x: Tensor, rows: Tensor, A: Tensor, w: Tensor, bias: Tensor, D: Tensor) -> Tensor:
        """Cross-scan, expansion of the step, mamba-ssm's scan, cross-merge: (B, C, H, W)."""
        B, C, H, W = x.shape
        u, delta, b, c = self._expand(x, rows, w)
        y = _Scan.apply(self.kernel, u, delta, A, b, c, D, bias).view(B, 4, C, H * W)
        y = y[:, 0:2] + y[:, 2:4].flip(-1)
        return y[:, 0].view(B, C, H, W) + y[:, 1].view(B, C, W, H).transpose(2, 3)

    def bare_arguments(self, x: Tensor, rows: Tensor, A: Tensor, w: Tensor, bias: Tensor, D: Tensor) -> list[Tensor]:
        u, delta, b, c = self._expand(x, rows, w)
        return [t.detach().contiguous() for t in (u, delta, A, b, c, D, bias)]

    def bare(self, u: Tensor, delta: Tensor, A: Tensor, b: Tensor, c: Tensor, D: Tensor, bias: Tensor) -> Tensor:
        return _Scan.apply(self.kernel, u, delta, A, b, c, D, bias)

    @staticmethod
    def _expand(x: Tensor, rows: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        B, C, H, W = x.shape
        walks = torch.stack([x.flatten(2), x.transpose(2, 3).flatten(2)], dim=1)
        u = torch.cat([walks, walks.flip(-1)], dim=1).view(B, 4 * C, H * W)
        R = w.shape[-1]
        N = (rows.shape[2] - R) // 2
        dt, b, c = rows.split([R, N, N], dim=2)
        delta = torch.einsum("bkrl,kcr->bkcl", dt, w).reshape(B, 4 * C, H * W)
        return u, delta, b.contiguous(), c.contiguous()


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: ModuleType, *args: Tensor) -> Tensor:
        u, delta, A, b, c, D, bias = args
        y, x, *_ = kernel.fwd(u, delta, A, b, c, D, None, bias, True)
        ctx.kernel = kernel
        ctx.save_for_backward(*args, x)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        u, delta, A, b, c, D, bias, x = ctx.saved_tensors
        out = ctx.kernel.bwd(u, delta, A, b, c, D, None, bias, grads[0].contiguous(), x, None, None, True, False)
        return (None, *out[:7])


def _build(source: Path) -> ModuleType:
    """The bfloat16 instances only: the whole package takes many times as long to compile and runs the same kernel."""
    from torch.utils.cpp_extension import load

    folder = Path(tempfile.mkdtemp(prefix="selective_scan_"))
    text = (source / "selective_scan.cpp").read_text()
    only = """
#undef DISPATCH_ITYPE_FLOAT_AND_HALF_AND_BF16
#define DISPATCH_ITYPE_FLOAT_AND_HALF_AND_BF16(ITYPE, NAME, ...) \\
    { TORCH_CHECK(ITYPE == at::ScalarType::BFloat16); using input_t = at::BFloat16; __VA_ARGS__(); }
#undef DISPATCH_WTYPE_FLOAT_AND_COMPLEX
#define DISPATCH_WTYPE_FLOAT_AND_COMPLEX(WTYPE, NAME, ...) \\
    { TORCH_CHECK(WTYPE == at::ScalarType::Float); using weight_t = float; __VA_ARGS__(); }
"""
    text, count = re.subn(r"(?m)^template<typename input_t, typename weight_t>", only + r"\g<0>", text, count=1)
    if count != 1:
        raise ImportError(f"{source / 'selective_scan.cpp'} is not the source this build knows")
    (folder / "selective_scan.cpp").write_text(text)
    for name in ("selective_scan_fwd_bf16.cu", "selective_scan_bwd_bf16_real.cu"):
        lines = (source / name).read_text().splitlines()
        (folder / name).write_text("\n".join(line for line in lines if "complex_t" not in line) + "\n")
    return load(
        name="selective_scan_cuda",
        sources=[str(p) for p in sorted(folder.iterdir())],
        extra_include_paths=[str(source)],
        extra_cflags=["-O3", "-std=c++17"],
        extra_cuda_cflags=[
            "-O3", "-std=c++17", "-U__CUDA_NO_HALF_OPERATORS__", "-U__CUDA_NO_HALF_CONVERSIONS__",
            "-U__CUDA_NO_BFLOAT16_OPERATORS__", "-U__CUDA_NO_BFLOAT16_CONVERSIONS__",
            "-U__CUDA_NO_BFLOAT162_OPERATORS__",
            "--expt-relaxed-constexpr", "--expt-extended-lambda", "--use_fast_math",
            "-gencode=arch=compute_90,code=sm_90",
        ],
        build_directory=str(folder),
    )  # fmt: skip
