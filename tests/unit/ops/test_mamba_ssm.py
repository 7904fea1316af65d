"""The package mamba-ssm in the states that people have it in without a GPU: each is recognised and explained. What this
project lays around its scan, with a stand-in for the scan itself (with the package's own: tests/gpu)."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hymunet.ops import mamba_ssm, ss2d
from tests.unit.ops import mamba_kernel
from tests.unit.ops.cases import NAMES, Case, assert_agrees, expected
from tests.unit.ops.layouts import assert_as_promised


@pytest.fixture(autouse=True)
def looked_up_anew() -> Iterator[None]:
    for cached in (mamba_ssm._kernel, mamba_ssm.unavailable):
        cached.cache_clear()
    yield
    for cached in (mamba_ssm._kernel, mamba_ssm.unavailable):
        cached.cache_clear()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder first on the path where the package's metadata is, as pip writes it."""
    metadata = tmp_path / "mamba_ssm-2.3.2.post1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: mamba-ssm\nVersion: 2.3.2.post1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "selective_scan_cuda", raising=False)
    return tmp_path


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)
    reason = str(mamba_ssm.unavailable("cuda"))
    assert reason.startswith("the package mamba-ssm is not installed; pip install 'hymunet[cuda]'")


def test_installed_without_its_cuda_part(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)
    reason = str(mamba_ssm.unavailable("cuda"))
    assert reason.startswith("this build of mamba-ssm has no working CUDA scan (")
    assert "rebuild it with MAMBA_KEEP_CUDA_BUILD=TRUE" in reason


def test_a_cuda_part_of_another_torch(installed: Path) -> None:
    (installed / "selective_scan_cuda.py").write_text("raise ImportError('undefined symbol: _ZN3c104cuda9SetDeviceEi')")
    reason = str(mamba_ssm.unavailable("cuda"))
    assert "no working CUDA scan (undefined symbol: _ZN3c104cuda9SetDeviceEi); rebuild it" in reason
    assert "\n" not in reason


@pytest.mark.skipif(not mamba_ssm._installed(), reason="mamba-ssm is not installed")
def test_the_package_of_this_environment() -> None:
    reason = str(mamba_ssm.unavailable("cuda"))
    assert reason == "None" or reason.startswith("this build of mamba-ssm has no working CUDA scan")


def test_on_a_cpu_it_is_refused_with_the_way_on() -> None:
    with pytest.raises(
        ValueError, match="mamba-ssm's scan is a CUDA kernel, the tensors are on cpu; use backend='auto'"
    ):
        ss2d(*Case(1, 2, 2, 1, 1, 1).inputs(), backend="mamba_ssm")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", mamba_kernel)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 5, 7, 6, 4, 3), (1, 1, 1, 1, 1, 1), (1, 4, 4, 3, 16, 2)])
def test_around_its_scan_the_reference(stand_in: None, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """delta is handed over in x's type, so that in bfloat16 an error of that size goes into every state."""
    case = Case(*shape, dtype=dtype)
    inputs = [tensor.requires_grad_() for tensor in case.inputs()]
    y = torch.ops.hymunet.ss2d(*inputs, "mamba_ssm", True)[0]
    gradients = torch.autograd.grad(y, inputs, case.grad_y())
    wanted, wanted_gradients = expected(case)
    for name, actual, value in zip(("y", *NAMES), (y.detach(), *gradients), (wanted, *wanted_gradients), strict=True):
        if dtype == torch.float32:
            assert_agrees(name, actual, value)
        else:
            assert (actual.double() - value).norm() <= 0.02 * value.norm(), name


def test_what_it_returns_is_laid_out_as_the_compiler_is_told(stand_in: None) -> None:
    assert_as_promised("mamba_ssm", "cpu")
