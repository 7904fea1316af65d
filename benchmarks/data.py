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
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.data_prepare import memory, seconds, speed
from hymunet import atomic


def feeding(quick: bool) -> dict[str, Any]:
    from benchmarks.data_training import feeding

    return feeding(quick)


def split(quick: bool) -> dict[str, Any]:
    """Time of the search over drawn lesions, eight times as many after the fewer, and the memory that they take."""
    import numpy as np

    from hymunet.data.acquire.synthetic import draw
    from hymunet.data.divide.near_duplicates import features, near_duplicates
    from hymunet.data.prepare.decode import lesion_view
    from hymunet.data.prepare.manifest import perceptual_hash

    def drawn(index: int) -> tuple[np.ndarray, str]:
        image, mask = draw(index, 192, seed=0)
        return lesion_view(image, mask // 255), f"{perceptual_hash(image):016x}"

    few, many = (50, 400) if quick else (1250, 10_000)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        lesions = list(tqdm(pool.map(drawn, range(many)), total=many, desc="drawing", unit="image", disable=None))
    views, hashes = np.stack([view for view, _ in lesions]), [code for _, code in lesions]
    del lesions
    _, small = seconds(lambda: near_duplicates(views[:few], hashes[:few]))
    wall, large = seconds(lambda: near_duplicates(views, hashes))
    return {
        "images": [few, many],
        "keypoints_per_image": round(float(np.mean([len(features(view).points) for view in views[:few]]))),
        "growth_of_processor_time": round(large / small, 2),
        "processor_milliseconds_per_image": round(large / many * 1000),
        "wall_seconds": round(wall),
        "cores_used": round(large / wall, 2),
        "peak_MiB_of_the_main_process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
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
