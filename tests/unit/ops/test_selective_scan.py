"""The operator: its contract with torch, the choice of backend, and what it says to bad input."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hymunet.ops import cpu, reference, selective_scan, ss2d
from tests.unit.ops.cases import NAMES, Case, assert_agrees, expected
from tests.unit.ops.layouts import assert_as_promised

needs_kernel = pytest.mark.skipif(bool(cpu.unavailable("cpu")), reason=f"no CPU kernel: {cpu.unavailable('cpu')}")
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selective_scan, "_said", set())


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(cpu, "LIBRARY", tmp_path / "_scan_cpu.so")
    cpu._library.cache_clear()
    yield
    monkeypatch.undo()
    cpu._library.cache_clear()


def gradients(case: Case, backend: str) -> tuple[Tensor, list[Tensor]]:
    inputs = [tensor.requires_grad_() for tensor in case.inputs()]
    y = ss2d(*inputs, backend=backend)
    return y.detach(), list(torch.autograd.grad(y, inputs, case.grad_y()))


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autograd_through_the_operator(dtype: torch.dtype) -> None:
    case = Case(2, 5, 7, 19, 6, 3, dtype=dtype)
    y, grads = gradients(case, "auto")
    wanted, wanted_grads = expected(case)
    assert_agrees("y", y, wanted)
    for name, actual, gradient in zip(NAMES, grads, wanted_grads, strict=True):
        assert_agrees(f"gradient of {name}", actual, gradient)


@needs_kernel
def test_opcheck() -> None:
    case = Case(1, 6, 6, 17, 2, 1)
    inputs = [tensor.requires_grad_() for tensor in case.inputs()]
    torch.library.opcheck(torch.ops.hymunet.ss2d, (*inputs, "cpu", True))
    detached = [tensor.detach() for tensor in inputs]
    torch.library.opcheck(torch.ops.hymunet.ss2d, (*detached, "cpu", False))
    states = torch.ops.hymunet.ss2d(*detached, "cpu", True)[1]
    torch.library.opcheck(torch.ops.hymunet.ss2d_backward, (case.grad_y(), states, *detached, "cpu"))


@needs_kernel
def test_what_it_returns_is_laid_out_as_the_compiler_is_told() -> None:
    assert_as_promised("cpu", "cpu")


class Scan(nn.Module):
    """A scan between two maps, as a block has it."""

    def __init__(self, channels: int, backend: str) -> None:
        super().__init__()
        self.backend = backend
        self.projection = nn.Linear(channels, 4 * (2 + 2 * 4))
        _, _, *parameters = Case(1, 1, 1, channels, 4, 2).inputs()
        for name, value in zip(NAMES[2:], parameters, strict=True):
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, x: Tensor) -> Tensor:
        projected = self.projection(x).unflatten(-1, (4, -1))
        parameters = (self.get_parameter(name) for name in NAMES[2:])
        return nn.functional.silu(ss2d(nn.functional.silu(x), projected, *parameters, backend=self.backend))


@needs_kernel
@pytest.mark.parametrize("compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_without_a_graph_break(compiler: str) -> None:
    module = Scan(12, "auto")
    compiled = torch.compile(module, fullgraph=True, backend=compiler, dynamic=True)
    for size in ((2, 5, 6, 12), (1, 8, 3, 12)):
        x = torch.randn(size, generator=torch.Generator().manual_seed(0)).requires_grad_()
        y = module(x)
        eager = [y, *torch.autograd.grad(y.square().sum(), [x, *module.parameters()])]
        z = compiled(x)
        ours = [z, *torch.autograd.grad(z.square().sum(), [x, *module.parameters()])]
        for one, other in zip(ours, eager, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_scan_leaves_the_compiler_unimported() -> None:
    """torch's compiler takes seconds to import; who evaluates or serves without it should not wait for it."""
    check = """
import sys, torch
from hymunet.ops import ss2d
from tests.unit.ops.cases import Case
y = ss2d(*(tensor.requires_grad_() for tensor in Case(1, 2, 2, 1, 1, 1).inputs()))
y.sum().backward()
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", check], cwd=ROOT, check=True)


@needs_kernel
def test_autocast_keeps_the_state_in_float32() -> None:
    module, x = Scan(12, "auto"), torch.randn(1, 9, 9, 12, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x.bfloat16())
        module.backend = "export"
        stock = module(x.bfloat16())
    assert y.dtype == stock.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), stock.float(), rtol=2**-7, atol=2**-7)


@needs_kernel
def test_auto_takes_the_kernel_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    inputs = Case(1, 3, 3, 2, 2, 1).inputs()
    with caplog.at_level(logging.INFO, "hymunet.ops"), warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            ss2d(*inputs)
    assert [record.message for record in caplog.records] == ["selective scan on cpu: cpu backend"]


def test_a_missing_kernel_is_a_visible_warning_with_the_remedy(no_kernel: None) -> None:
    case = Case(1, 3, 5, 4, 3, 2)
    with pytest.warns(RuntimeWarning, match="slow export backend.*not built; install a C.. compiler"):
        y = ss2d(*case.inputs())
    assert_agrees("y", y, expected(case)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ss2d(*case.inputs())
    with pytest.raises(ValueError, match="backend 'cpu' cannot run this scan: the C.. kernel was not built"):
        ss2d(*case.inputs(), backend="cpu")


@needs_kernel
def test_a_library_of_other_sources_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "ABI", cpu.ABI + 1)
    cpu._library.cache_clear()
    assert "built from other sources" in str(cpu.unavailable("cpu"))
    cpu._library.cache_clear()


def test_more_states_than_a_kernel_takes() -> None:
    case = Case(1, 3, 4, 5, 17, 2)
    with pytest.warns(RuntimeWarning, match="export backend, because of cpu: 17 states per channel, at most 16"):
        y = ss2d(*case.inputs())
    assert_agrees("y", y, expected(case)[0])
    with pytest.raises(ValueError, match="17 states"):
        ss2d(*case.inputs(), backend="cpu")


def test_float64_takes_the_slower_path_by_name() -> None:
    inputs = [tensor.double() for tensor in Case(1, 3, 4, 5, 2, 2).inputs()]
    with pytest.warns(RuntimeWarning, match="float64 is not one of"):
        y = ss2d(*inputs)
    torch.testing.assert_close(y, reference.ss2d(*inputs), rtol=1e-12, atol=1e-12)


BAD = {
    "x (1, 3, 12)": (0, lambda x: x.flatten(2), "takes x .B, H, W, C."),
    "no pixels": (0, lambda x: x[:, :0], "needs at least one image, pixel, channel"),
    "no channels": (0, lambda x: x[..., :0], "needs at least one image, pixel, channel"),
    "proj of another map": (1, lambda p: p[:, 1:], r"proj is \(1, 2, 4, 4, 8\), expected \(1, 3, 4, 4, 8\)"),
    "proj of other states": (1, lambda p: p[..., 1:], "proj is"),
    "A of other channels": (2, lambda a: a[:, 1:], r"A is \(4, 2, 3\), expected \(4, 3, 3\)"),
    "three directions": (2, lambda a: a[1:], "A is"),
    "dt_weight": (3, lambda w: w[1:], "dt_weight is"),
    "dt_bias": (4, lambda b: b[:, :1], "dt_bias is"),
    "D": (5, lambda d: d[0], "D is"),
    "x in int": (0, lambda x: x.int(), "takes float32, bfloat16, float16 or float64; x is torch.int32"),
    "proj in another type": (1, lambda p: p.half(), "proj is torch.float16, expected torch.float32"),
    "parameters in half": (2, lambda a: a.half(), "A is torch.float16, expected torch.float32"),
    "D elsewhere": (5, lambda d: d.to("meta"), "D is on meta, x on cpu"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("backend", ["auto", "reference", "export"])
def test_bad_input_is_named_in_one_line(name: str, backend: str) -> None:
    index, spoil, message = BAD[name]
    inputs = Case(1, 3, 4, 3, 3, 2).inputs()
    inputs[index] = spoil(inputs[index])
    with pytest.raises(ValueError, match=message) as caught:
        ss2d(*inputs, backend=backend)
    assert "\n" not in str(caught.value)


def test_an_unknown_backend_is_refused_with_the_choice() -> None:
    with pytest.raises(ValueError, match="unknown scan backend 'cuda'; choose one of auto, cpu, triton"):
        ss2d(*Case(1, 2, 2, 1, 1, 1).inputs(), backend="cuda")


def test_the_install_goes_on_without_a_compiler(tmp_path: Path) -> None:
    for name in ("setup.py", "hymunet/compiled_parts.py", "hymunet/ops/csrc"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, target)
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=tmp_path,
        env=os.environ | {"CXX": "no-such-compiler"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "the CPU kernel of the selective scan is not built" in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.so"))
