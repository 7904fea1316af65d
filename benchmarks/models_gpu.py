"""Every model of the study on one GPU, in one run: images a second trained and inferred, and the memory it takes.

Trained: the project's own loop as a training runs it (compiled, captured, sums in one order, bfloat16), batches of 24.
Inferred: batches of 1 and 24 from images on the device to probabilities, float32 and bfloat16, not compiled.
`hymunet study run` fills the folder of compiled code on the way; without it every model compiles for a minute first.

`python -m benchmarks.models_gpu --json benchmarks/results/models_gpu.json`
"""

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.training_gpu import VALIDATION, measure, reset, write_images
from benchmarks.training_loops import ROOT
from hymunet.study import plan, size

PIXELS, BATCH, STEPS = 256, 24, 20
STUDY = ROOT / "studies/comparison"


def inferred(section: Any) -> dict[str, dict[str, float]]:
    """Images a second by type and batch."""
    from hymunet import models

    reset()
    model = models.build(section, PIXELS).cuda().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rates = {"float32": size.inference_rates(model, PIXELS)}
    with torch.autocast("cuda", torch.bfloat16):
        rates["bfloat16"] = size.inference_rates(model, PIXELS)
    return rates


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures; those of models that are not run stay in it")
    parser.add_argument("--models", nargs="*", help="of the study; all of them")
    arguments = parser.parse_args()
    from hymunet.training import device

    study = plan.load(STUDY)
    cells = {cell.model: study.checked(cell) for cell in study.cells}
    if unknown := set(arguments.models or []) - cells.keys():
        parser.error(f"{', '.join(sorted(unknown))}: not in {STUDY}; there are: {', '.join(cells)}")
    device.keep_compiled_code()
    device.make_deterministic()
    result: dict[str, Any] = {"cases": {}}
    if arguments.json and arguments.json.exists():
        result = json.loads(arguments.json.read_text())
    machine = device.describe(device.choose(0))
    result |= {"machine": machine, "torch": torch.__version__, "python": platform.python_version()}
    with tempfile.TemporaryDirectory(prefix="hymunet-benchmark-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_images(folder, PIXELS, VALIDATION)
        for model in arguments.models or cells:
            section = cells[model].model
            trained = measure(folder, section.model_dump(), "compiled", BATCH, STEPS)
            figures = {**size.counts(section, PIXELS), "trained": trained, "inferred": inferred(section)}
            result["cases"][model] = figures
            print(f"{model}: {json.dumps(figures)}", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
