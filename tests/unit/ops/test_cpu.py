"""The C++ kernels against the float64 reference, on every instruction set that this CPU has."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given, settings

from hymunet.ops import cpu
from tests.unit.ops.cases import NAMES, Case, assert_agrees, cases, expected

pytestmark = pytest.mark.skipif(bool(cpu.unavailable("cpu")), reason=f"no CPU kernel: {cpu.unavailable('cpu')}")


@pytest.fixture(params=cpu.INSTRUCTION_SETS)
def isa(request: pytest.FixtureRequest) -> str:
    if request.param not in cpu.instruction_sets():
        pytest.skip(f"this CPU has no {request.param}")
    return request.param


def check(case: Case) -> None:
    y, grads = expected(case)
    inputs = case.inputs()
    for isa in cpu.instruction_sets():
        actual, states = cpu.forward(*inputs, isa=isa)
        assert_agrees(f"{isa}: y", actual, y)
        ours = cpu.backward(case.grad_y(), states, *inputs, isa=isa)
        for name, gradient, wanted in zip(NAMES, ours, grads, strict=True):
            assert_agrees(f"{isa}: gradient of {name}", gradient, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_random_scans_agree_with_the_reference(dtype: torch.dtype) -> None:
    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(cases(dtype))
    def agrees(case: Case) -> None:
        check(case)

    agrees()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case(1, 64, 64, 3, 2, 1), marks=pytest.mark.slow),
        Case(1, 1, 1000, 2, 16, 2, bias=-6.0),
        Case(1, 1000, 1, 2, 1, 1, bias=1.0),
        Case(1, 31, 33, 17, 5, 3),
        Case(9, 3, 3, 130, 16, 8),
        Case(1, 1, 1, 1, 1, 1),
        Case(2, 8, 4, 64, 16, 4),
    ],
    ids=str,
)
def test_long_thin_and_wide_maps(case: Case) -> None:
    check(case)


def test_decay_is_accurate_over_the_whole_range(isa: str) -> None:
    """Impulse response: x is 1 at the first step only, so y of direction 0 is exp(A * delta * t) itself."""
    L = 400
    for rate in (1e-6, 1e-3, 0.1, 0.5, 3.0, 80.0):
        x = torch.zeros(1, 1, L, 1)
        x[0, 0, 0] = 1
        proj = torch.zeros(1, 1, L, 4, 3)
        proj[:, :, :, 0, 1:] = 1
        A = torch.full((4, 1, 1), -rate)
        bias = torch.full((4, 1), 0.5413248546)  # softplus = 1
        y, _ = cpu.forward(x, proj, A, torch.zeros(4, 1, 1), bias, torch.zeros(4, 1), isa=isa)
        wanted = torch.exp(-rate * torch.arange(L, dtype=torch.float64))
        normal = wanted > 1e-37
        steps = torch.arange(1, L + 1)
        error = (y[0, 0, :, 0].double() / wanted - 1).abs() / steps / max(1, rate)
        assert error[normal].max() < 2e-7, f"rate {rate}"
        assert (y[0, 0, ~normal, 0] < 1.2e-37).all()


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("own_threads", [False, True])
def test_results_depend_neither_on_threads_nor_on_the_run(
    isa: str, threads: int, own_threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(3, 9, 7, 150, 7, 4)
    inputs, grad_y, before = case.inputs(), case.grad_y(), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        y, states = cpu.forward(*inputs, isa=isa)
        single = [y, states, *cpu.backward(grad_y, states, *inputs, isa=isa)]
        if own_threads:
            monkeypatch.setattr(cpu, "_gomp_parallel", lambda: None)
        torch.set_num_threads(threads)
        for _ in range(3):
            y, states = cpu.forward(*inputs, isa=isa)
            several = [y, states, *cpu.backward(grad_y, states, *inputs, isa=isa)]
            assert all(torch.equal(one, other) for one, other in zip(single, several, strict=True))
    finally:
        torch.set_num_threads(before)


def test_the_pool_of_torch_is_found() -> None:
    if not torch.backends.openmp.is_available():
        pytest.skip("this torch has no OpenMP")
    assert cpu._gomp_parallel()


def test_non_contiguous_inputs_are_copied_and_said(isa: str, caplog: pytest.LogCaptureFixture) -> None:
    case = Case(2, 5, 6, 20, 4, 2)
    x, *rest = case.inputs()
    strided = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    with caplog.at_level(logging.DEBUG, "hymunet.ops"):
        y, states = cpu.forward(strided, *rest, isa=isa)
    assert "copying x" in caplog.text
    assert torch.equal(y, cpu.forward(x, *rest, isa=isa)[0])
    broadcast = torch.ones(()).expand(2, 5, 6, 20)
    ours = cpu.backward(broadcast, states, strided, *rest, isa=isa)
    wanted = cpu.backward(broadcast.contiguous(), states, x, *rest, isa=isa)
    assert all(torch.equal(one, other) for one, other in zip(ours, wanted, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_reach_their_channel_and_no_other(isa: str, value: float) -> None:
    case = Case(1, 5, 6, 20, 4, 2)
    x, *rest = case.inputs()
    clean, _ = cpu.forward(x, *rest, isa=isa)
    x[0, 2, 3, 7] = value
    y, states = cpu.forward(x, *rest, isa=isa)
    assert not y[..., 7].isfinite().any()
    others = [channel for channel in range(20) if channel != 7]
    assert torch.equal(y[..., others], clean[..., others])
    grads = cpu.backward(case.grad_y(), states, x, *rest, isa=isa)
    assert not grads[2][:, 7].isfinite().any()
    assert grads[2][:, others].isfinite().all()


def test_nan_in_a_parameter_is_not_hidden_by_the_bit_arithmetic(isa: str) -> None:
    x, proj, A, *rest = Case(1, 5, 6, 20, 4, 2).inputs()
    for payload in (0x7FC00000, 0x7FC00001, 0x7F80FFFF, -0x400000):
        A[2, 3, 1] = torch.tensor(payload, dtype=torch.int32).view(torch.float32)
        y, _ = cpu.forward(x, proj, A, *rest, isa=isa)
        assert y[..., 3].isnan().sum() >= 29  # all but the first step of that direction


def test_states_are_kept_once_a_block() -> None:
    case = Case(2, 16, 16, 40, 6, 2)
    _, states = cpu.forward(*case.inputs())
    assert states.shape == cpu.state_shape(2, 16, 16, 40, 6) == (2, 4, 256 // cpu.BLOCK - 1, 3, 8, 16)
    assert cpu.state_shape(1, 4, 8, 40, 6)[2] == 0


def test_without_a_backward_to_come_no_states_are_kept(isa: str) -> None:
    inputs = Case(2, 9, 7, 40, 6, 2).inputs()
    y, states = cpu.forward(*inputs, keep=False, isa=isa)
    assert states.numel() == 0
    assert torch.equal(y, cpu.forward(*inputs, isa=isa)[0])


def test_an_instruction_set_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no mmx kernel; choose one of .*generic"):
        cpu.forward(*Case(1, 2, 2, 1, 1, 1).inputs(), isa="mmx")
