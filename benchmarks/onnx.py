"""Time per image of HyM-UNet and of a plain U-Net in torch and in ONNX Runtime, in each precision there is here.

    python -m benchmarks.onnx [--size 256] [--rounds 60] [--threads N] [--folder DIR] [--json FILE]

Files are those that `hymunet export` writes, images to masks; images are of the models' own size and weights are
random, which costs the same. One image at a time; the forms take turns on each, so that a busy moment meets them all.
With `--threads 1` times are of the processor, which a busy machine hardly disturbs. With --folder models and files are
kept and found again. Ratios are to the U-Net's better float32 form.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

MODELS: dict[str, dict[str, Any]] = {
    "HyM-UNet 32-256": {"name": "hymunet", "size": "small", "drop_path": 0.0},
    "U-Net 64-1024": {"name": "unet", "size": "published"},
}
OURS, PLAIN = MODELS
CALIBRATION = 8  # drawn images, for 8 bits; times do not depend on them


def main() -> int:
    from hymunet.processors import processors

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=processors(), help="default: all processors")
    parser.add_argument(
        "--folder", type=Path, help="keeps the models and their ONNX files here, and uses what it finds"
    )
    parser.add_argument("--json", type=Path, help="write the figures")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        record = measure(folder, options.size, options.rounds, options.threads)
    print(f"one image at {options.size}x{options.size}, {options.threads} thread(s), {record['machine']}")
    print(table(record))
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def measure(folder: Path, size: int, rounds: int, threads: int) -> dict[str, Any]:
    import torch

    from hymunet.prediction.onnx_file import runtime
    from hymunet.training.device import describe

    torch.set_num_threads(threads)
    image = np.random.default_rng(1).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    runs = {
        (model, form): run
        for model in MODELS
        for form, run in forms(folder / f"{MODELS[model]['name']}{size}", model, size, threads, image).items()
    }
    times: dict[tuple[str, str], list[float]] = {name: [] for name in runs}
    found = {name: run() for name, run in runs.items()}
    clock = time.process_time if threads == 1 else time.perf_counter
    for _ in range(rounds):
        for name, run in runs.items():
            start = clock()
            run()
            times[name].append(1e3 * (clock() - start))
    rows: list[dict[str, Any]] = [
        {
            "model": model,
            "form": form,
            "p50_ms": float(np.percentile(one, 50)),
            "p99_ms": float(np.percentile(one, 99)),
            "images_per_second": 1e3 / float(np.mean(one)),
            "difference": float(np.abs(found[model, form] - found[model, "torch float32"]).max()),
        }
        for (model, form), one in times.items()
    ]
    plain = min(row["p50_ms"] for row in rows if row["model"] == PLAIN and row["form"].endswith("float32"))
    for row in rows:
        row["times_faster"] = plain / row["p50_ms"]
    return {
        "machine": describe(torch.device("cpu")),
        "size": size,
        "threads": threads,
        "rounds": rounds,
        "clock": "processor" if threads == 1 else "wall",
        "onnxruntime": runtime().__version__,
        "torch": torch.__version__,
        "rows": rows,
    }


def forms(folder: Path, model: str, size: int, threads: int, image: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Form -> what computes the image's probabilities."""
    import torch

    from hymunet.inference import Segmenter
    from hymunet.models.protocols import scans
    from hymunet.precision import computes_in_bfloat16
    from hymunet.prediction.onnx_file import runtime

    files = exported(folder, MODELS[model], size)
    segmenter = Segmenter.load(folder / "model", device="cpu")
    found: dict[str, Callable[[], np.ndarray]] = {"torch float32": lambda: segmenter.probabilities(image)}
    if computes_in_bfloat16(torch.device("cpu")):
        shorter = replace(segmenter, precision="bf16")
        found["torch bf16"] = lambda: shorter.probabilities(image)
    if model == OURS:
        spelled = Segmenter.load(folder / "model", device="cpu")
        for scan in scans(spelled.model):
            scan.backend = "export"
        found["torch, scan in stock operators"] = lambda: spelled.probabilities(image)
    for form, file in files.items():
        settings = runtime().SessionOptions()
        settings.intra_op_num_threads = threads
        session = runtime().InferenceSession(file, settings, providers=["CPUExecutionProvider"])
        found[f"ONNX Runtime {form}"] = partial(_probabilities, session, image)
    return found


def _probabilities(session: Any, image: np.ndarray) -> np.ndarray:
    return session.run(["probability"], {"images": image})[0]


def exported(folder: Path, section: dict[str, Any], size: int) -> dict[str, Path]:
    """Form -> ONNX file of a model of random weights; written, with the model beside them, where not there yet."""
    import shutil

    import torch

    from hymunet import models
    from hymunet.data.acquire.synthetic import draw
    from hymunet.inference import Segmenter
    from hymunet.portable import export, reduce

    files = {form: folder / f"{form}.onnx" for form in ("float32", "int8")}
    if not all(file.exists() for file in files.values()):
        torch.manual_seed(0)
        model = models.build(models.section(section), size)
        (folder / "model").mkdir(parents=True, exist_ok=True)
        models.save(model, {"model": section, "image_size": size, "threshold": 0.5}, folder / "model")
        export.export(Segmenter.load(folder / "model", device="cpu"), files["float32"])
        shutil.copyfile(files["float32"], files["int8"])
        reduce.reduce(files["int8"], "int8", (draw(number, size, 0)[0] for number in range(CALIBRATION)))
    return files


def table(record: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| model | form | images/s | ms p50 | ms p99 | times U-Net float32 | difference to torch float32 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        times = (
            f"{row['images_per_second']:.1f} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {row['times_faster']:.1f}"
        )
        lines.append(f"| {row['model']} | {row['form']} | {times} | {row['difference']:.1e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
