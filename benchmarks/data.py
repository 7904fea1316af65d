"""The data steps' speed, as ratios within one run: decoding originals of ISIC's true sizes against plain loops.

    python -m benchmarks.data [--json FILE] [--quick]

The peers are a plain PIL loop and a plain OpenCV loop, each decoding image and mask in full and resizing them, on one
core as such loops are written. `decoder alone` decodes at the scale that prepare asks for, in as many processes, and
does nothing else: prepare's own limit.
"""

import argparse
import io
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from hymunet import atomic
from hymunet.data.archives import Archive
from hymunet.data.decode import JPEG, REDUCED, VIEW_DETAIL, _reduction
from hymunet.data.synthetic import draw

SIZE = 256
# Widths and heights of ISIC 2018 Task 1 with about their shares: most are 1022×767, the largest 6708×4439.
SHAPES = [(1022, 767)] * 13 + [(2048, 1536), (3008, 2000), (4288, 2848), (6708, 4439)]
SOURCE = {"image": "ISIC2018_Task1-2_Training_Input", "mask": "ISIC2018_Task1_Training_GroundTruth"}


def make_originals(folder: Path, images: int) -> None:
    """ZIPs of the official layout; drawn at 512 pixels and enlarged, with noise to compress like photos."""
    rng = np.random.default_rng(0)
    with (
        zipfile.ZipFile(folder / f"{SOURCE['image']}.zip", "w") as inputs,
        zipfile.ZipFile(folder / f"{SOURCE['mask']}.zip", "w") as truths,
    ):
        for index in range(images):
            width, height = SHAPES[index % len(SHAPES)]
            image, mask = draw(index, 512, seed=0)
            large = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
            noisy = np.clip(large + rng.normal(0, 3, (height, width, 1)), 0, 255).astype(np.uint8)
            jpeg = cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
            png = cv2.imencode(".png", cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST))[1].tobytes()
            inputs.writestr(f"{SOURCE['image']}/ISIC_{index:07}.jpg", jpeg)
            truths.writestr(f"{SOURCE['mask']}/ISIC_{index:07}_segmentation.png", png)
    archives = [{"name": f"{SOURCE[kind]}.zip"} for kind in ("image", "mask")]
    (folder / "source.json").write_text(json.dumps({"source": "isic2018", "archives": archives}))


def pairs(folder: Path) -> list[tuple[bytes, bytes]]:
    with Archive(folder / f"{SOURCE['image']}.zip") as inputs, Archive(folder / f"{SOURCE['mask']}.zip") as truths:
        return [
            (inputs.read(a), truths.read(b)) for a, b in zip(sorted(inputs.names), sorted(truths.names), strict=True)
        ]


def pil_loop(folder: Path) -> None:
    from PIL import Image

    for image, mask in pairs(folder):
        np.asarray(Image.open(io.BytesIO(image)).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX))
        small = Image.open(io.BytesIO(mask)).convert("L").resize((SIZE, SIZE), Image.Resampling.NEAREST)
        assert (np.asarray(small) > 128).any()


def cv2_loop(folder: Path) -> None:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    for image, mask in pairs(folder):
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB)
        cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        grey = cv2.imdecode(np.frombuffer(mask, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert (cv2.resize(grey, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST) > 128).any()
    cv2.setNumThreads(threads)


def _decode_only(job: tuple[Path, int, int]) -> None:
    folder, worker, workers = job
    cv2.setNumThreads(1)
    for image, mask in pairs(folder)[worker::workers]:
        shape = cv2.imdecode(np.frombuffer(mask, np.uint8), cv2.IMREAD_GRAYSCALE).shape
        assert image[:3] == JPEG
        cv2.imdecode(np.frombuffer(image, np.uint8), REDUCED[_reduction(shape, max(SIZE, VIEW_DETAIL))])


def decoder_alone(folder: Path) -> None:
    workers = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(_decode_only, [(folder, worker, workers) for worker in range(workers)])


PREPARE = (
    "import resource, sys; from pathlib import Path; from hymunet.data.prepare import prepare;"
    "prepare(Path(sys.argv[1]), Path(sys.argv[2]), {size}, 'stop');"
    "own = int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]);"
    "print(own + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


def prepare_step(folder: Path) -> int:
    """Peak resident memory of the step's program and of its largest worker, together, in KiB."""
    with tempfile.TemporaryDirectory(dir=folder) as output:
        program = f"if __name__ == '__main__':\n    {PREPARE.format(size=SIZE)}\n"
        script = Path(output) / "step.py"
        script.write_text(program)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        result = subprocess.run(
            [sys.executable, str(script), str(folder), output],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return int(result.stdout)


def seconds(action: Callable[[Path], object], folder: Path) -> tuple[float, float]:
    """Wall and processor seconds (of this process and of those it waited for)."""
    before, start = os.times(), time.perf_counter()
    action(folder)
    wall, after = time.perf_counter() - start, os.times()
    return wall, sum(after[:4]) - sum(before[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--quick", action="store_true", help="few images, one round: a check that it runs")
    arguments = parser.parse_args()
    images, rounds = (17, 1) if arguments.quick else (102, 3)
    programs = {"prepare": prepare_step, "PIL loop": pil_loop, "OpenCV loop": cv2_loop, "decoder alone": decoder_alone}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_originals(folder, images)
        memory = prepare_step(folder)
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
        for _ in range(rounds):  # interleaved, so that what else runs here meets all alike
            for name, program in programs.items():
                runs[name].append(seconds(program, folder))
        size = sum(path.stat().st_size for path in folder.glob("*.zip"))
    wall = {name: statistics.median(run[0] for run in found) for name, found in runs.items()}
    cpu = {name: statistics.median(run[1] for run in found) for name, found in runs.items()}
    result = {
        "cores": os.cpu_count(),
        "images": images,
        "archive_bytes": size,
        "image_size": SIZE,
        "wall_ratio_to_prepare": {name: round(value / wall["prepare"], 2) for name, value in wall.items()},
        "processor_ratio_to_prepare": {name: round(value / cpu["prepare"], 2) for name, value in cpu.items()},
        "prepare_peak_memory_mib": round(memory / 1024),
    }
    text = json.dumps(result, indent=2) + "\n"
    print(text, end="")
    if arguments.json:
        atomic.write(arguments.json, text)


if __name__ == "__main__":
    main()
