"""A whole evaluation with a model that takes no time: scores on both grids, calibration, slices, the page of all cases.

    python -m benchmarks.evaluation --json benchmarks/results/evaluation.json

Images are drawn lesions, moved and mirrored, with masks at twice their size as the images' own. Wall-clock seconds mean
something on a machine that does nothing else; processor seconds, of all threads, hold on a busy one as well.
"""

import argparse
import json
import platform
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from hymunet import params
from hymunet.data.acquire.synthetic import draw
from hymunet.data.prepare.manifest import facts
from hymunet.evaluation.cases import Case
from hymunet.evaluation.evaluate import Origin, examine
from hymunet.inference import Segmenter
from hymunet.processors import processors

DRAWN = 16
SECTION = params.Evaluate(threshold=0.5, temperature=1.0, flips=False, shifts=False, bootstrap=2000, seed=0)


class Darkness(nn.Module):
    """Lesion where the image is darker than its middle: a mask about right, in no time."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(6.0))

    def forward(self, x: Tensor) -> Tensor:
        small = nn.functional.avg_pool2d(x.mean(1, keepdim=True), 8)
        dark = (small.mean((2, 3), keepdim=True) - small) * self.scale
        return nn.functional.interpolate(dark, x.shape[2:], mode="bilinear")


class Drawn:
    """count images of size×size, made when they are asked for."""

    groups, grouped_by, source = None, None, "drawn"

    def __init__(self, count: int, size: int) -> None:
        self.ids, self._size = [f"case{index:05}" for index in range(count)], size
        self._drawn = [draw(index, size, 0) for index in range(min(DRAWN, count))]

    def __getitem__(self, position: int) -> Case:
        image, mask = self._drawn[position % len(self._drawn)]
        rng = np.random.default_rng(position)
        move = tuple(int(part) for part in rng.integers(-self._size // 16, self._size // 16, 2))
        image, truth = (np.roll(pixels, move, (0, 1)) for pixels in (image, mask // 255))
        if position // len(self._drawn) % 2:
            image, truth = (np.ascontiguousarray(pixels[:, ::-1]) for pixels in (image, truth))
        native = cv2.resize(truth, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
        id = self.ids[position]
        return Case(id, image, truth, native, facts(id.encode(), id.encode(), image, native))


def measure(images: int, size: int) -> dict[str, Any]:
    cases = Drawn(images, size)
    info = {"model": {"name": "unet", "size": "none"}, "weights_sha256": "0" * 64}
    segmenter = Segmenter(Darkness().eval(), size, 0.5, False, info)
    wall, busy = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        found = examine(
            segmenter, cases, Origin({"weights_sha256": "0" * 64}, {"images": images}), Path(folder), SECTION
        )
        page = (Path(folder) / "report.html").stat().st_size
    return {
        "images": images,
        "size": size,
        "native_size": 2 * size,
        "seconds": round(time.perf_counter() - wall, 1),
        "processor_seconds": round(time.process_time() - busy, 1),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "page_mb": round(page / 1e6, 1),
        "dice": round(found["test"]["dice"]["mean"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=512)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    row = measure(arguments.images, arguments.size)
    print(json.dumps(row), flush=True)
    if arguments.json:
        record = {"machine": platform.processor() or platform.machine(), "processors": processors(), **row}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
