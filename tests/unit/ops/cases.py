"""Random scans, the float64 reference of each, and how closely a backend must agree with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from hymunet.ops import reference

NAMES = ("x", "proj", "A", "dt_weight", "dt_bias", "D")
# Largest error, as a share of the largest value of the tensor. float32: exp(u) carries the rounding of u, |u| * 6e-8
# with |u| up to 88, and the sums add to it; the others: the rounding of the result itself.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2**-8, torch.float16: 2**-10}


@dataclass(frozen=True)
class Case:
    """Shapes and distribution of one scan. `bias` sets the size of delta = softplus(bias + ...)."""

    B: int
    H: int
    W: int
    C: int
    N: int
    R: int
    bias: float = -2.0
    dtype: torch.dtype = torch.float32
    seed: int = 0

    def inputs(self) -> list[Tensor]:
        generator = torch.Generator().manual_seed(self.seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        x = normal(self.B, self.H, self.W, self.C)
        proj = normal(self.B, self.H, self.W, 4, self.R + 2 * self.N)
        A = -torch.exp(normal(4, self.C, self.N))
        dt_weight = normal(4, self.C, self.R) * self.R**-0.5
        dt_bias = normal(4, self.C) * 0.5 + self.bias
        D = normal(4, self.C)
        return [x.to(self.dtype), proj.to(self.dtype), A, dt_weight, dt_bias, D]

    def grad_y(self) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed + 1)
        return torch.randn(self.B, self.H, self.W, self.C, generator=generator).to(self.dtype)


def expected(case: Case) -> tuple[Tensor, list[Tensor]]:
    """y and the gradients of all inputs, by the reference in float64 on the same (already rounded) inputs."""
    inputs = [tensor.double().requires_grad_() for tensor in case.inputs()]
    y = reference.ss2d(*inputs)
    return y.detach(), list(torch.autograd.grad(y, inputs, case.grad_y().double()))


def assert_agrees(name: str, actual: Tensor, wanted: Tensor, roundings: int = 1) -> None:
    """`TOLERANCE` of the tensor's own type, times `roundings`, as a share of its largest value.

    Values below 1e-6, next to inputs of about 1, and steps of the type's subnormal numbers count as zero.
    """
    assert actual.shape == wanted.shape, name
    scale = max(wanted.abs().max().item(), 1e-6)
    info = torch.finfo(actual.dtype)
    error = (actual.double() - wanted).abs().max().item() - info.tiny * info.eps
    bound = TOLERANCE[actual.dtype] * roundings * scale
    assert error <= bound, f"{name}: error {error / scale:.1e} of the largest, {scale:.1e}"


def cases(dtype: torch.dtype = torch.float32) -> st.SearchStrategy[Case]:
    """Maps of odd and even sizes, channels beside the vector width, 1 to 16 states, and steps from tiny to huge."""
    biases = (-12.0, -2.0, 3.0) if dtype == torch.float16 else (-12.0, -2.0, 3.0, 40.0, 300.0)
    return st.builds(
        Case,
        B=st.integers(1, 3),
        H=st.integers(1, 9),
        W=st.integers(1, 9),
        C=st.integers(1, 70),
        N=st.integers(1, 16),
        R=st.integers(1, 9),
        bias=st.sampled_from(biases),
        dtype=st.just(dtype),
        seed=st.integers(0, 2**31),
    )
