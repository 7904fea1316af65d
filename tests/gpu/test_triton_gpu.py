"""The Triton scan on an NVIDIA GPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hymunet.ops import mamba_ssm, ss2d
from tests.unit.ops.cases import NAMES, Case, assert_agrees, expected
from tests.unit.ops.layouts import assert_as_promised

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible"),
]
SHAPES = [
    (2, 16, 16, 256, 16, 8),
    (1, 32, 32, 64, 16, 2),
    (1, 7, 11, 40, 5, 3),
    (3, 16, 5, 130, 16, 16),
    (2, 16, 9, 96, 16, 24),
]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def run(case: Case, backend: str) -> list[Tensor]:
    inputs = [tensor.cuda().requires_grad_() for tensor in case.inputs()]
    y = ss2d(*inputs, backend=backend)
    return [y.detach().cpu(), *(g.cpu() for g in torch.autograd.grad(y, inputs, case.grad_y().cuda()))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """In bfloat16 what is added is rounded too: the parts of the four directions, and the terms of dproj."""
    case = Case(*shape, dtype=dtype)
    wanted, wanted_grads = expected(case)
    for name, actual, value in zip(("y", *NAMES), run(case, "triton"), (wanted, *wanted_grads), strict=True):
        assert_agrees(name, actual, value, roundings=2 if dtype == torch.bfloat16 else 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_runs_give_the_same_bits(dtype: torch.dtype) -> None:
    case = Case(4, 32, 32, 128, 16, 4, dtype=dtype)
    assert all(torch.equal(a, b) for a, b in zip(run(case, "triton"), run(case, "triton"), strict=True))


def test_huge_steps_and_nan() -> None:
    case = Case(1, 8, 8, 32, 16, 2, bias=300.0)
    assert_agrees("y", run(case, "triton")[0], expected(case)[0])
    inputs = [tensor.cuda() for tensor in case.inputs()]
    inputs[0][0, 3, 3, 5] = float("nan")
    y = ss2d(*inputs, backend="triton")
    assert y[0, 3, 3, 5].isnan()
    assert not y[..., 6].isnan().any()


def test_strided_inputs() -> None:
    inputs = [tensor.cuda() for tensor in Case(2, 6, 5, 40, 4, 2).inputs()]
    strided = inputs[0].permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.equal(ss2d(strided, *inputs[1:], backend="triton"), ss2d(*inputs, backend="triton"))


@pytest.mark.parametrize("backend", ["triton", "mamba_ssm"])
def test_what_it_returns_is_laid_out_as_the_compiler_is_told(backend: str) -> None:
    if backend == "mamba_ssm" and (reason := mamba_ssm.unavailable("cuda")):
        pytest.skip(reason)
    assert_as_promised(backend, "cuda")


@pytest.mark.skipif(mamba_ssm.unavailable("cuda") is not None, reason=str(mamba_ssm.unavailable("cuda")))
@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_mamba_ssm_agrees_with_the_reference(dtype: torch.dtype) -> None:
    case = Case(2, 9, 12, 64, 16, 4, dtype=dtype)
    wanted, wanted_grads = expected(case)
    for name, actual, value in zip(("y", *NAMES), run(case, "mamba_ssm"), (wanted, *wanted_grads), strict=True):
        error = (actual.double() - value).norm() / value.norm()
        assert error < 0.02, f"{name}: {error:.1e}"
