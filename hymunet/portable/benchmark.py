"""One model by every form and runtime there is here: milliseconds, megabytes, and Dice, as a table and as JSON."""

from __future__ import annotations

import platform
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from hymunet.inference import Segmenter
from hymunet.portable.export import write
from hymunet.portable.measure import MARGIN, Row, measure
from hymunet.portable.prepared import Images
from hymunet.portable.reduce import FORMS, reduce
from hymunet.portable.target import require_packages
from hymunet.precision import computes_in_bfloat16
from hymunet.prediction.ensemble import Ensemble
from hymunet.prediction.onnx_file import OnnxModel, runtime
from hymunet.prediction.segmenter import TorchModel
from hymunet.processors import threads_wanted


def benchmark(segmenter: Segmenter, images: Images) -> dict[str, Any]:
    """segmenter: on the CPU. Each image by each form, one at a time, from pixels to the mask at the image's size."""
    require_packages()
    torch.set_num_threads(threads_wanted())
    megabytes = {name: _weights(segmenter) for name in ("torch float32", "torch bf16")}
    models = {"torch float32": Ensemble([TorchModel(segmenter, "")])}
    if computes_in_bfloat16(torch.device("cpu")):
        models["torch bf16"] = Ensemble([TorchModel(replace(segmenter, precision="bf16"), "")])
    with tempfile.TemporaryDirectory() as folder:
        for form in FORMS:
            name, path = f"ONNX Runtime {form}", Path(folder) / f"{form}.onnx"
            write(segmenter, path, form)
            reduce(path, form, images.calibration())
            megabytes[name] = path.stat().st_size / 1e6
            models[name] = Ensemble([OnnxModel(path)])
        with tqdm(total=images.count, unit="image", disable=None) as bar:
            rows = measure(models, images.pairs(), images.groups, bar.update)
    return {
        "images": images.count,
        "image_size": segmenter.image_size,
        "weights_sha256": segmenter.info["weights_sha256"],
        "threads": threads_wanted(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "onnxruntime": runtime().__version__,
        "margin": MARGIN,
        "rows": [_record(row, megabytes[row.form]) for row in rows],
    }


def _weights(segmenter: Segmenter) -> float:
    """MB of the weights as `model.safetensors` holds them."""
    return sum(tensor.nbytes for tensor in segmenter.model.state_dict().values()) / 1e6


def _record(row: Row, megabytes: float) -> dict[str, Any]:
    return {
        "form": row.form,
        "p50_ms": row.percentile(50),
        "p99_ms": row.percentile(99),
        "mb": megabytes,
        "dice": row.dice,
        "difference": row.difference,
        "within_margin": row.within,
    }


def table(record: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| form | ms p50 | ms p99 | MB | Dice | less torch float32 (95 % interval) |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        found = row["difference"]
        differs = f"{found['mean']:+.5f} ({found['low']:+.5f} to {found['high']:+.5f})" if found else ""
        if not row["within_margin"]:
            differs += ", beyond the margin"
        times = f"{row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {row['mb']:.1f}"
        lines.append(f"| {row['form']} | {times} | {row['dice']:.4f} | {differs} |")
    return "\n".join(lines)
