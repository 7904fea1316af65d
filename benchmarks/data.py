"""The data steps' speed, as ratios within one run, and what prepare takes of memory.

    python -m benchmarks.data [--json FILE] [--quick] [--part speed|memory|feeding|split]

speed: prepare on originals of ISIC's true sizes against a plain PIL loop and a plain OpenCV loop, each decoding image
and mask in full and resizing them, on one core as such loops are written; and against its own decoders alone, as many
at a time. memory: prepare on an archive of the official one's size. feeding: the loader against albumentations alone,
and how long a training step waits. split: the near-duplicate search, and how it grows.
A part that is run alone replaces its figures in FILE and leaves the others.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.data_prepare import memory, speed
from hymunet import atomic


def feeding(quick: bool) -> dict[str, Any]:
    from benchmarks.data_training import feeding

    return feeding(quick)


def split(quick: bool) -> dict[str, Any]:
    """Processor seconds of the search over drawn lesions, the larger number over the smaller."""
    import cv2
    import numpy as np

    from hymunet.data.decode import lesion_view
    from hymunet.data.manifest import perceptual_hash
    from hymunet.data.near_duplicates import near_duplicates
    from hymunet.data.synthetic import draw

    counts = (50, 100) if quick else (600, 1200)
    drawn = [draw(index, 192, seed=0) for index in range(max(counts))]
    views = np.stack([lesion_view(image, mask // 255) for image, mask in drawn])
    hashes = [f"{perceptual_hash(image):016x}" for image, _ in drawn]
    cv2.setNumThreads(1)
    seconds, wall = {}, {}
    for count in counts:
        before, start = time.process_time(), time.perf_counter()
        near_duplicates(views[:count], hashes[:count])
        seconds[count], wall[count] = time.process_time() - before, time.perf_counter() - start
    small, large = counts
    return {
        "images": list(counts),
        "growth_of_processor_time": round(seconds[large] / seconds[small], 2),
        "processor_milliseconds_per_image": round(seconds[large] / large * 1000),
        "cores_used": round(seconds[large] / wall[large], 2),
    }


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "speed": speed,
    "memory": memory,
    "feeding": feeding,
    "split": split,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--quick", action="store_true", help="few images, one round: a check that it runs")
    parser.add_argument("--part", choices=PARTS, help="only this one")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"cores": os.cpu_count()}
    if arguments.part and arguments.json and arguments.json.exists():
        result = json.loads(arguments.json.read_text())
    for name in [arguments.part] if arguments.part else PARTS:
        result[name] = PARTS[name](arguments.quick)
        print(json.dumps({name: result[name]}, indent=2), flush=True)
        if arguments.json:
            atomic.write(arguments.json, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
