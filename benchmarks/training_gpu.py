"""The training step on a GPU: kernel by kernel, captured as one graph, compiled and captured; and what keeps it from
the card's limits.

Every case is the project's own loop (loader, augmentation on the device, guard, optimizer, counters) on drawn images,
timed on the clock around runs of steps that end with a wait for the device; the median of the runs. `loop` is how the
step runs where it cannot be captured, which is how all steps ran before they could be.

`python -m benchmarks.training_gpu --json benchmarks/results/training_gpu.json`
"""

import argparse
import gc
import itertools
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.training_loops import ROOT

WAYS = {"loop": "off", "captured": "off", "compiled": "auto"}
MODELS = {
    "hymunet small": {"name": "hymunet", "size": "small"},
    "hymunet base": {"name": "hymunet", "size": "base"},
    "hymunet large": {"name": "hymunet", "size": "large"},
    "unet 32-256": {"name": "unet", "size": "small"},
    "unet 64-1024": {"name": "unet", "size": "published"},
}
IMAGES, VALIDATION, TEST = 640, 259, 1  # validation as large as ISIC 2018's
RUNS = 5
NAME = 120  # of a kernel's name, as much as is kept


def write_images(folder: Path, pixels: int, validation: int) -> None:
    """Discs on noisy ground, prepared and split."""
    count = IMAGES + validation + TEST
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:pixels, :pixels]
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (count, pixels, pixels, 3))
    masks = np.lib.format.open_memmap(folder / "masks.npy", "w+", np.uint8, (count, pixels, pixels))
    noise = random.integers(0, 40, (64, pixels, pixels, 3), np.uint8)
    for index in range(count):
        (x, y), radius = random.uniform(0.3, 0.7, 2) * pixels, random.uniform(0.1, 0.3) * pixels
        masks[index] = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
        images[index] = noise[index % 64] + (180 - 90 * masks[index][..., None])
    (folder / "prepare.json").write_text(json.dumps({"sha256": "benchmark"}))
    names = ["train"] * IMAGES + ["validation"] * validation + ["test"] * TEST
    lines = [f"{row:04d},{row},{name}" for row, name in enumerate(names)]
    (folder / "split.csv").write_text("\n".join(["id,group,split", *lines]) + "\n")


def build(folder: Path, model: dict[str, str], way: str, batch: int, scan: str | None = None, **changes: Any) -> Any:
    from hymunet import params
    from hymunet.data.feed.dataset import TrainingData
    from hymunet.models.protocols import scans
    from hymunet.training.capture import send
    from hymunet.training.distributed import Ranks
    from hymunet.training.learner import Learner

    content = params.read_yaml(ROOT / "params.yaml")
    content["model"] |= model
    content["train"] |= {"batch_size": batch, "epochs": 10_000, "augment": "device", "compile": WAYS[way], **changes}
    checked = params.check(content)
    learner = Learner(checked.model, checked.train, TrainingData(folder, folder / "split.csv"), Ranks())
    if scan:
        for layer in scans(learner.model):
            layer.backend = scan
    if way == "loop":
        learner.run = lambda tensors: learner.step(send(tensors, learner.device))
    return learner


def measure(
    folder: Path,
    model: dict[str, str],
    way: str,
    batch: int,
    steps: int,
    fixed: bool = True,
    scan: str | None = None,
) -> dict:
    """fixed: sums in one order, as always in a training. scan: the backend, in place of the one that is chosen.

    joules: of the whole GPU, a step; None where it has no meter.
    """
    from hymunet.training.tracking import gpus

    torch.use_deterministic_algorithms(fixed)
    torch.backends.cudnn.benchmark = not fixed
    reset()
    learner = build(folder, model, way, batch, scan)
    batches = learner.batches()
    start = time.perf_counter()
    learn(learner, batches, 1)
    first = time.perf_counter() - start
    learn(learner, batches, 10)
    before = gpus.joules()
    seconds = [learn(learner, batches, steps) / steps for _ in range(RUNS)]
    after = gpus.joules()
    used = None if before is None or after is None else (after - before) / (RUNS * steps)
    middle = statistics.median(seconds)
    return {
        "ms": round(1e3 * middle, 3),
        "ms_low_high": [round(1e3 * value, 3) for value in (min(seconds), max(seconds))],
        "images_per_second": round(batch / middle, 1),
        "joules": used and round(used, 2),
        "peak_MiB": round(torch.cuda.max_memory_reserved() / 2**20) if torch.cuda.is_available() else 0,
        "first_step_s": round(first, 2),
        "ran": learner.engine.name if way != "loop" else "loop",
    }


def learn(learner: Any, batches: Iterator[dict[str, Tensor]], steps: int) -> float:
    wait()
    start = time.perf_counter()
    for batch in itertools.islice(batches, steps):
        learner.learn(batch)
    wait()
    return time.perf_counter() - start


def validation(folder: Path, model: dict[str, str], batch: int) -> dict[str, float]:
    """A validation of 259 images beside the steps of an epoch of 2,075."""
    reset()
    learner = build(folder, model, "compiled", batch)
    batches = learner.batches()
    learn(learner, batches, 5)
    step = statistics.median(learn(learner, batches, 20) / 20 for _ in range(3))
    learner.finish_epoch()
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        learner.finish_epoch()
        seconds.append(time.perf_counter() - start)
    share = statistics.median(seconds) / (statistics.median(seconds) + 2075 // batch * step)
    return {"ms": round(1e3 * statistics.median(seconds), 2), "per_cent_of_an_epoch": round(100 * share, 2)}


def kernels(folder: Path, model: dict[str, str], batch: int) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds of a compiled and captured step: by kernel family, and of the ten kernels that take longest."""
    from torch.profiler import ProfilerActivity, profile

    reset()
    learner = build(folder, model, "compiled", batch)
    batches = learner.batches()
    learn(learner, batches, 5)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        learn(learner, batches, 5)
    each = {event.key: event.self_device_time_total / 5e3 for event in profiler.key_averages()}
    families: dict[str, float] = {}
    for kernel, ms in each.items():
        families[_family(kernel)] = families.get(_family(kernel), 0.0) + ms
    return _longest(families), {kernel[:NAME]: ms for kernel, ms in _longest(each, 10).items()}


def _longest(ms: dict[str, float], most: int | None = None) -> dict[str, float]:
    return {name: round(ms[name], 3) for name in sorted(ms, key=lambda name: -ms[name])[:most]}


def _family(kernel: str) -> str:
    name = kernel.lower()
    table = {
        "scan backward": ("backward_kernel", "merge_gradients", "merge_rows"),
        "scan forward": ("scan_kernel", "summary_kernel", "combine_kernel", "arrange_kernel", "merge_kernel"),
        "convolutions and matrix products": (
            "conv",
            "gemm",
            "xmma",
            "cudnn",
            "cutlass",
            "wgrad",
            "dgrad",
            "nvjet",
            "sm90",
        ),
        "optimizer and norms": ("multi_tensor", "adam", "lpnorm"),
        "fused by the compiler": ("triton_",),
        "copies": ("memcpy", "memset", "copy"),
    }
    return next((family for family, words in table.items() if any(word in name for word in words)), "other")


def ceilings() -> dict[str, float]:
    """What the card does at best: bfloat16 products in TFLOP/s, copies in TB/s (bytes read and written)."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    source = torch.empty(2**31, device="cuda", dtype=torch.uint8).random_()
    target = torch.empty_like(source)
    return {
        "matrix_TFLOPs": round(2 * 8192**3 / _event_seconds(lambda: a @ b) / 1e12, 1),
        "memory_TBs": round(2 * 2**31 / _event_seconds(lambda: target.copy_(source)) / 1e12, 2),
    }


def flops(model: dict[str, str], batch: int, pixels: int) -> float:
    """Of a forward with backward, in TFLOP: convolutions and matrix products, without the scan."""
    from torch.utils.flop_counter import FlopCounterMode

    from hymunet import models, params

    content = params.read_yaml(ROOT / "params.yaml")
    content["model"] |= model
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = models.build(params.check(content).model, pixels).to(device)
    with FlopCounterMode(display=False) as counter:
        module(torch.randn(batch, 3, pixels, pixels, device=device)).sum().backward()
    return counter.get_total_flops() / 1e12


def _event_seconds(function: Callable[[], Any], repeats: int = 10) -> float:
    for _ in range(3):
        function()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(repeats):
        function()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / repeats


def reset() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures; those of parts that are not run stay in it")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--batches", nargs="*", type=int, default=[24])
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--free", action="store_true", help="also without the fixed order of sums")
    parser.add_argument("--mamba-ssm", action="store_true", help="also with the scan of the package mamba-ssm")
    parser.add_argument("--parts", action="store_true", help="also kernel families, validation and the card's limits")
    arguments = parser.parse_args()
    from hymunet.training import device

    device.keep_compiled_code()
    device.make_deterministic()
    result: dict[str, Any] = {"cases": {}}
    if arguments.json and arguments.json.exists():
        result = json.loads(arguments.json.read_text())
    machine = device.describe(device.choose(0))
    result |= {"machine": machine, "torch": torch.__version__, "python": platform.python_version()}

    def keep(name: str, figures: Any) -> None:
        result["cases"][name] = figures
        print(f"{name}: {json.dumps(figures)}", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=2) + "\n")

    with tempfile.TemporaryDirectory(prefix="hymunet-benchmark-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_images(folder, arguments.pixels, VALIDATION)
        if arguments.parts and torch.cuda.is_available():
            keep("limits", ceilings())
        for model, batch in itertools.product(arguments.models, arguments.batches):
            case = f"{model}, batch {batch}, {arguments.pixels} pixels"
            if arguments.parts:
                keep(f"{case}, TFLOP a step", round(flops(MODELS[model], batch, arguments.pixels), 4))
            for way in arguments.ways:
                for fixed in (True, False) if arguments.free else (True,):
                    figures = measure(folder, MODELS[model], way, batch, arguments.steps, fixed)
                    keep(f"{case}, {way}{'' if fixed else ', sums in any order'}", figures)
            if arguments.mamba_ssm and MODELS[model]["name"] == "hymunet":
                for way in arguments.ways:
                    figures = measure(folder, MODELS[model], way, batch, arguments.steps, scan="mamba_ssm")
                    keep(f"{case}, {way}, scan of mamba-ssm", figures)
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False
            if arguments.parts:
                keep(f"{case}, validation", validation(folder, MODELS[model], batch))
            if arguments.parts and torch.cuda.is_available():
                families, longest = kernels(folder, MODELS[model], batch)
                keep(f"{case}, ms by family", families)
                keep(f"{case}, ms of the longest kernels", longest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
