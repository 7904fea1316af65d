"""From image files to mask files: `hymunet predict` over a folder of JPEGs, and where its time goes.

    python -m benchmarks.predict [--images 1000] [--width 1022] [--height 767] [--model bundled] [--json FILE]

The command runs as users run it, from its start to its last mask. Then each of its steps is timed on a few of the
images, one after the other in one thread: with the steps beside each other on all processors, the command takes less.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SAMPLE = 40  # images whose steps are timed
DRAWN = 20  # different ones


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--width", type=int, default=1022)
    parser.add_argument("--height", type=int, default=767)
    parser.add_argument("--model", default="bundled", help="as hymunet predict takes it")
    parser.add_argument("--json", type=Path, help="write the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        photos(folder / "photos", options.images, (options.width, options.height))
        command = [sys.executable, "-m", "hymunet.cli", "predict", str(folder / "photos"), "--model", options.model]
        start = time.perf_counter()
        subprocess.run([*command, "--save", "mask", "--output", str(folder / "out")], check=True)
        seconds = time.perf_counter() - start
        parts = steps(sorted((folder / "photos").iterdir())[:SAMPLE], options.model, folder / "steps", options.images)
    record = {**machine(), "images": options.images, "size": [options.width, options.height], "model": options.model}
    record |= {"seconds": seconds, "images_per_second": options.images / seconds, "ms_per_step": parts}
    print(f"{options.images} JPEGs of {options.width}x{options.height}: {record['images_per_second']:.1f} images/s")
    total = sum(parts.values())
    for name, milliseconds in parts.items():
        print(f"{name:34s} {milliseconds:7.1f} ms an image, {milliseconds / total:4.0%} of one thread's time")
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def photos(folder: Path, count: int, size: tuple[int, int]) -> None:
    import cv2

    from hymunet.data.acquire.synthetic import draw

    folder.mkdir()
    drawn = [cv2.resize(draw(number, 512, 0)[0][..., ::-1], size) for number in range(min(DRAWN, count))]
    contents = [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes() for image in drawn]
    for number in range(count):
        (folder / f"{number:05}.jpg").write_bytes(contents[number % len(contents)])


def steps(files: list[Path], model: str, output: Path, images: int) -> dict[str, float]:
    """Milliseconds an image of each of the command's steps."""
    import hymunet.images
    from hymunet.prediction import results
    from hymunet.prediction.open import open_models

    taken: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        taken[name] += 1e3 * (time.perf_counter() - start) / len(files)

    opened = open_models([model], images=images)
    first = hymunet.images.read(files[0])
    opened.compute([opened.prepare(first)])  # what a first call sets up
    for file in files:
        with timed("read and hash the file"):
            content = file.read_bytes()
            hashlib.sha256(content).hexdigest()
        with timed("check and decode the JPEG"):
            image = hymunet.images.rgb(content, file.name)
        with timed("resize to the model's size"):
            prepared = opened.prepare(image)
        with timed("the model"):
            computed = opened.compute([prepared])[0]
        with timed("probabilities and mask at full size"):
            found = opened.found(computed, image.shape[:2])
            _ = found.mask
        with timed("measure, compress and write"):
            results.write(file.stem, str(file), image, found, output, results.kinds("mask"))
    return dict(taken)


def machine() -> dict[str, Any]:
    import torch

    from hymunet.processors import processors
    from hymunet.training.device import describe

    return {"machine": describe(torch.device("cpu")), "processors": processors()}


if __name__ == "__main__":
    sys.exit(main())
