"""What is compiled while a program runs is asked about before: the answer is the one that Triton would come to."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import torch

from hymunet.ops import compilers, triton
from hymunet.training import device as devices

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")
STUB = """
#include <Python.h>
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "stub"};
PyMODINIT_FUNC PyInit_stub(void) { return PyModule_Create(&definition); }
"""


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def gcc_as(folder: Path, name: str) -> None:
    os.symlink(shutil.which("gcc") or "", folder / name)
    for tool in ("as", "ld"):  # found on the path by the compiler
        os.symlink(shutil.which(tool) or "", folder / tool)


CASES = {
    "none": (lambda folder: None, None, "there is no C compiler; install one (apt-get install gcc libc6-dev)"),
    "gcc": (lambda folder: gcc_as(folder, "gcc"), None, None),
    "clang": (lambda folder: gcc_as(folder, "clang"), None, None),
    "CC": (lambda folder: gcc_as(folder, "my-cc"), "my-cc", None),
    "CC that is not there": (lambda folder: gcc_as(folder, "gcc"), "missing-cc", "compiler {cc} cannot be run"),
    "a compiler without headers": (
        lambda folder: program(folder / "gcc", "echo 'stub.c:1: fatal error: stdint.h: No such file' >&2; exit 1"),
        None,
        "does not compile (stub.c:1: fatal error: stdint.h: No such file)",
    ),
}


@needs_gcc
@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_tritons_own(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = pytest.importorskip("triton.runtime.build", reason="needs the extra `triton`")
    make, named, expected = CASES[case]
    bin = tmp_path / "bin"
    bin.mkdir()
    make(bin)
    monkeypatch.setenv("PATH", str(bin))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    if named:
        monkeypatch.setenv("CC", str(bin / named))
    problem = compilers.c_problem()
    if expected is None:
        assert problem is None
        build.compile_module_from_src(STUB, "stub")
    else:
        assert problem is not None
        assert expected.format(cc=bin / (named or "")) in problem
        with pytest.raises((RuntimeError, OSError, subprocess.CalledProcessError)):
            build.compile_module_from_src(STUB, "stub")


def gpu_without_compilers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CC", "CXX", "TRITON_INTERPRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))


@pytest.fixture
def forgetful():
    triton.unavailable.cache_clear()
    yield
    triton.unavailable.cache_clear()


def test_a_gpu_without_a_c_compiler_has_no_triton_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetful: None
) -> None:
    pytest.importorskip("triton", reason="needs the extra `triton`")
    gpu_without_compilers(tmp_path, monkeypatch)
    assert "there is no C compiler; install one" in str(triton.unavailable("cuda"))


@pytest.mark.parametrize(("device", "language"), [("cuda", "C"), ("cpu", "C++")])
def test_compile_true_without_a_compiler_is_refused_before_the_training(
    device: str, language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetful: None
) -> None:
    gpu_without_compilers(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=rf"train.compile: .*there is no {language.replace('+', '.')} compiler"):
        devices.require_compilers(torch.device(device))
