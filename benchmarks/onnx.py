"""Time per image of the exported HyM-UNet in ONNX Runtime, beside torch with the scan's kernel and without it.

    python -m benchmarks.onnx [--size 128] [--batch 1] [--rounds 30] [--threads N] [--folder DIR] [--json FILE]

The file is the one that `hymunet export` writes, images to masks; images are of the model's own size and weights are
random, which costs the same. With --folder the export is kept and found again. The three take turns, and medians are
printed; with `--threads 1` of processor time, which a busy machine hardly disturbs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all cores")
    parser.add_argument("--folder", type=Path, help="keeps the model and its ONNX file here, and uses what it finds")
    parser.add_argument("--json", type=Path, help="write the figures")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        record = measure(folder, options.size, options.batch, options.rounds, options.threads)
    print(f"HyM-UNet 32-256, batch {options.batch} at {options.size}x{options.size}, {options.threads} thread(s)")
    for name, ratio in record["over_torch"].items():
        print(f"{name:30s} {ratio:.2f} of torch's time with the kernel")
    print(f"largest difference of a probability: {record['difference']:.1e}")
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def measure(folder: Path, size: int, batch: int, rounds: int, threads: int) -> dict[str, Any]:
    """Ratios of median times to torch's with the kernel; torch's own milliseconds per image stand beside them."""
    import numpy as np
    import torch

    from hymunet import models
    from hymunet.models.layers.state_space import SS2D
    from hymunet.portable.export import Portable
    from hymunet.prediction.onnx_file import runtime

    torch.set_num_threads(threads)
    file = exported(folder, size)
    model, _ = models.load(folder / "model")
    scans = [module for module in model.modules() if isinstance(module, SS2D)]
    portable = Portable(model).eval()
    images = np.random.default_rng(1).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    onnxruntime = runtime()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])

    def in_torch(backend: str) -> np.ndarray:
        for scan in scans:
            scan.backend = backend
        with torch.no_grad():
            return portable(torch.from_numpy(images)).numpy()

    runs: dict[str, Callable[[], np.ndarray]] = {
        "torch, kernel": lambda: in_torch("cpu"),
        "torch, stock operators": lambda: in_torch("export"),
        "onnxruntime": lambda: session.run(["probability"], {"images": images})[0],
    }
    results = {name: run() for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    clock = time.process_time if threads == 1 else time.perf_counter
    for _ in range(rounds):
        for name, run in runs.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    median = {name: statistics.median(values) for name, values in times.items()}
    return {
        "size": size,
        "batch": batch,
        "threads": threads,
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "torch_ms_per_image": median["torch, kernel"] / batch * 1e3,
        "over_torch": {name: value / median["torch, kernel"] for name, value in median.items()},
        "difference": float(np.abs(results["onnxruntime"] - results["torch, kernel"]).max()),
    }


def exported(folder: Path, size: int) -> Path:
    """The ONNX file of a small HyM-UNet at this size; written, with the model beside it, where it is not there yet."""
    import torch

    from hymunet import models
    from hymunet.inference import Segmenter
    from hymunet.portable import export

    file = folder / f"model{size}.onnx"
    if not file.exists():
        section = {"name": "hymunet", "size": "small", "drop_path": 0.0}
        torch.manual_seed(0)
        model = models.build(models.section(section), size)
        (folder / "model").mkdir(parents=True, exist_ok=True)
        models.save(model, {"model": section, "image_size": size, "threshold": 0.5}, folder / "model")
        export.export(Segmenter.load(folder / "model", device="cpu"), file)
    return file


if __name__ == "__main__":
    sys.exit(main())
