"""Where a training runs, in which precision, and how its arithmetic is held to one order."""

import ctypes
import os
import platform
from pathlib import Path

import torch

from hymunet.ops import compilers

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # names of glibc's malloc.h
COMPILED_CODE = "HYMUNET_COMPILE_CACHE"  # a folder, or a store (compiled_code.py)


def choose(local_rank: int) -> torch.device:
    """The GPU of this process where there is one, else the CPU."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def require_compilers(device: torch.device) -> None:
    """ValueError where torch.compile would find no compiler, a minute into the training."""
    problem = compilers.c_problem() if device.type == "cuda" else compilers.cpp_problem()
    if problem:
        raise ValueError(f"train.compile: {problem}; or set it to off")


def prepare() -> None:
    """What a training wants of its process, before anything is computed."""
    keep_compiled_code()  # first: with deterministic algorithms torch imports inductor, which then has its folder
    make_deterministic()
    keep_freed_memory()


def make_deterministic() -> None:
    """One order of every sum, on CPU and GPU; an operation that has none raises instead of varying.

    Call before the GPU is first used. Uninitialised memory is not filled: that costs time and only hides bugs.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def make_compiler_deterministic() -> None:
    """Where sums have one order, torch's compiler may not choose another by the clock."""
    from torch._inductor import config

    if hasattr(config, "deterministic"):
        config.deterministic = torch.are_deterministic_algorithms_enabled()


def keep_compiled_code() -> None:
    """Names the folder in which Triton's and inductor's compiled code outlives the process: HYMUNET_COMPILE_CACHE; the
    user's cache folder without it, or where it is a store (compiled_code.py). Their own variables win. Call before
    either is imported.

    Raises ValueError where HYMUNET_COMPILE_CACHE names a folder that cannot be made.
    """
    named = _named_folder()
    inductor, triton = compiled_code()
    try:
        inductor.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if named:
            raise ValueError(f"{COMPILED_CODE} {named}: no folder to write to ({error.strerror})") from None
        return  # a home that cannot be written to: their temporary folders
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(inductor))
    os.environ.setdefault("TRITON_CACHE_DIR", str(triton))


def compiled_code() -> list[Path]:
    """The folders of inductor's and Triton's compiled code."""
    folder = Path(_named_folder() or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "hymunet")).expanduser()
    return [folder / "inductor", folder / "triton"]


def _named_folder() -> str | None:
    named = os.environ.get(COMPILED_CODE)
    return None if named and named.startswith("s3://") else named


def keep_freed_memory() -> None:
    """Lets glibc keep what one step frees for the next, on the CPU.

    By default it returns every large tensor to the kernel, which hands out, and clears, fresh pages for the next one:
    a tenth of a training step. Elsewhere than on glibc: nothing to do. Call before large tensors exist.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def describe(device: torch.device) -> str:
    """The processor's name: what results are bit-exact on, together with the number of threads and torch's version."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def tags(device: torch.device, dtype: torch.dtype | None) -> dict[str, str]:
    """What a result is bit-exact for: the same values here, the same bytes there."""
    return {
        "hymunet.device": describe(device),
        "hymunet.precision": "float32" if dtype is None else "bf16",
        "hymunet.threads": str(torch.get_num_threads()),
        "hymunet.torch": torch.__version__,
        "hymunet.python": platform.python_version(),
    }


def peak_memory_bytes(device: torch.device) -> int:
    """Of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:  # of this program alone: getrusage would count what started it
        with open("/proc/self/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
