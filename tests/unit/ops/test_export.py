"""The two forms made of stock operators: against each other in float64, their gradients, and the way to ONNX."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from hymunet.ops import export, reference, ss2d
from tests.unit.ops.cases import NAMES, Case, assert_agrees, cases, expected


def test_the_walks_are_those_of_the_paper() -> None:
    assert reference.direction_order(2, 3, 0).tolist() == [0, 1, 2, 3, 4, 5]
    assert reference.direction_order(2, 3, 1).tolist() == [5, 4, 3, 2, 1, 0]
    assert reference.direction_order(2, 3, 2).tolist() == [2, 5, 1, 4, 0, 3]
    assert reference.direction_order(2, 3, 3).tolist() == [3, 0, 4, 1, 5, 2]


def test_the_reference_by_hand() -> None:
    """Two pixels, one state, delta = 1: [x0, a x0 + x1] one way and [x0 + a x1, x1] the other, each twice."""
    x = torch.tensor([2.0, 3.0], dtype=torch.float64).view(1, 1, 2, 1)
    proj = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64).expand(1, 1, 2, 4, 3)
    A, zero, D = torch.full((4, 1, 1), -0.5).double(), torch.zeros(4, 1, 1).double(), torch.ones(4, 1).double()
    bias = torch.full((4, 1), torch.expm1(torch.ones((), dtype=torch.float64)).log().item()).double()
    decay = torch.tensor(-0.5).double().exp().item()
    y = reference.ss2d(x, proj, A, zero, bias, D).flatten()
    wanted = [2 * 2 + 2 * (2 + decay * 3) + 4 * 2, 2 * (decay * 2 + 3) + 2 * 3 + 4 * 3]
    torch.testing.assert_close(y, torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize("form", [reference, export])
def test_gradcheck(form) -> None:
    inputs = [tensor.double().requires_grad_() for tensor in Case(1, 3, 4, 2, 2, 1, bias=0.5).inputs()]
    assert torch.autograd.gradcheck(form.ss2d, inputs)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(cases())
def test_random_scans_agree_with_the_reference(case: Case) -> None:
    y, grads = expected(case)
    for dtype in (torch.float32, torch.float64):
        inputs = [tensor.to(dtype).requires_grad_() for tensor in case.inputs()]
        ours = export.ss2d(*inputs)
        gradients = torch.autograd.grad(ours, inputs, case.grad_y().to(dtype))
        if dtype == torch.float32:
            for name, actual, wanted in zip(("y", *NAMES), (ours, *gradients), (y, *grads), strict=True):
                assert_agrees(name, actual, wanted)
        else:
            for actual, wanted in zip((ours, *gradients), (y, *grads), strict=True):
                scale = wanted.abs().max().item() + 1e-6
                torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("case", [Case(1, 1, 1, 1, 1, 1), Case(1, 17, 16, 2, 2, 1), Case(1, 65, 64, 1, 2, 1)], ids=str)
def test_one_chunk_and_many(case: Case) -> None:
    inputs = [tensor.double() for tensor in case.inputs()]
    torch.testing.assert_close(export.ss2d(*inputs), reference.ss2d(*inputs), rtol=1e-11, atol=1e-11)


def test_float16_arithmetic_cannot_overflow() -> None:
    """In float16 throughout, with steps of 300: decays vanish, nothing becomes infinite."""
    delta = torch.full((1, 4, 50, 3), 300.0).half()
    A = -torch.rand(4, 1, 3, 2, generator=torch.Generator().manual_seed(0)).half() * 16
    du, b, c = torch.ones(1, 4, 50, 3).half(), torch.ones(1, 4, 50, 2).half(), torch.ones(1, 4, 50, 2).half()
    assert export._scan(delta, du, b, c, A, 50).isfinite().all()


class Scan(nn.Module):
    def forward(self, x: Tensor, proj: Tensor, parameters: list[Tensor]) -> Tensor:
        return ss2d(x, proj, *parameters, backend="export")


def onnx_errors(folder: Path, sizes: list[tuple[int, int]], symbolic: bool) -> list[float]:
    """Exports the scan at the first size and runs it at each; the largest error against the reference."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    H, W = torch.export.Dim("H", min=2, max=256), torch.export.Dim("W", min=2, max=256)
    shapes = ({1: H, 2: W}, {1: H, 2: W}, [None] * 4) if symbolic else None
    x, proj, *parameters = Case(1, *sizes[0], 8, 4, 2).inputs()
    program = torch.onnx.export(Scan().eval(), (x, proj, parameters), dynamic_shapes=shapes, dynamo=True, verbose=False)
    program.save(folder / "scan.onnx")
    session = onnxruntime.InferenceSession(folder / "scan.onnx")
    errors = []
    for size in sizes:
        x, proj, *_ = Case(1, *size, 8, 4, 2, seed=3).inputs()
        inputs = (x, proj, *parameters)
        feed = {node.name: value.numpy() for node, value in zip(session.get_inputs(), inputs, strict=True)}
        wanted = ss2d(*inputs, backend="reference")
        errors.append((torch.from_numpy(session.run(None, feed)[0]) - wanted).abs().max().item())
    return errors


@pytest.mark.parametrize("size", [(6, 5), pytest.param((24, 24), marks=pytest.mark.slow)])
def test_onnx_gives_the_same_map(tmp_path: Path, size: tuple[int, int]) -> None:
    assert max(onnx_errors(tmp_path, [size], symbolic=False)) < 1e-5


@pytest.mark.slow
def test_one_onnx_graph_serves_maps_of_any_size(tmp_path: Path) -> None:
    assert max(onnx_errors(tmp_path, [(6, 5), (2, 2), (37, 21), (70, 64)], symbolic=True)) < 1e-5
