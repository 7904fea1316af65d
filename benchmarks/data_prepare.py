"""Prepare's speed beside plain loops and beside its decoders alone, and the memory that a full-size archive takes."""

import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.data_originals import pairs, write_originals
from hymunet.data.prepare.decode import decode_under
from hymunet.data.prepare.masks import read_mask

SIZE = 256
# Widths and heights of ISIC 2018 Task 1 with about their shares: most are 1022×767, the largest 6708×4439.
SHAPES = [(1022, 767)] * 13 + [(2048, 1536), (3008, 2000), (4288, 2848), (6708, 4439)]
# Fewer small ones, less compressed: in all 12.5 GB where the official archives have 11.2.
HEAVY = [(1022, 767)] * 5 + [(3008, 2000)] * 4 + [(4288, 2848)] * 3 + [(6708, 4439)] * 3
IMAGES = 2594
STEP = """
from pathlib import Path
import sys
from hymunet.data.prepare.prepare import prepare
if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), "stop")
    print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


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
        cv2.resize(np.asarray(pixels), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        grey = cv2.imdecode(np.frombuffer(mask, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert (cv2.resize(np.asarray(grey), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST) > 128).any()
    cv2.setNumThreads(threads)


def decoders_alone(folder: Path) -> None:
    """Prepare's own decoders at the scale that it asks for, in as many threads, and nothing else."""

    def decode(pair: tuple[bytes, bytes]) -> None:
        decode_under(*pair, read_mask(pair[1]), SIZE)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, pairs(folder)))


def prepare_step(folder: Path) -> None:
    """The step as a program of its own, its start included."""
    with _program(folder) as process:
        assert process.wait() == 0


PROGRAMS: dict[str, Callable[[Path], None]] = {
    "prepare": prepare_step,
    "PIL loop": pil_loop,
    "OpenCV loop": cv2_loop,
    "decoders alone": decoders_alone,
}


def speed(quick: bool) -> dict[str, Any]:
    images, rounds = (17, 1) if quick else (680, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_originals(folder, images, SHAPES, quality=92, distinct=17)
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
        for _ in range(rounds):  # interleaved, so that what else runs here meets all alike
            for name, program in PROGRAMS.items():
                runs[name].append(seconds(partial(program, folder)))
    wall, cpu = (
        {name: statistics.median(run[part] for run in found) for name, found in runs.items()} for part in (0, 1)
    )
    return {
        "images": images,
        "archive_bytes": size,
        "wall_ratio_to_prepare": {name: round(value / wall["prepare"], 2) for name, value in wall.items()},
        "processor_ratio_to_prepare": {name: round(value / cpu["prepare"], 2) for name, value in cpu.items()},
    }


def memory(quick: bool) -> dict[str, Any]:
    """Resident memory of the step's program over an archive of full size, sampled while it runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_originals(folder, 30 if quick else IMAGES, HEAVY, quality=98, distinct=30)
        samples: list[int] = []
        with _program(folder) as process:
            while process.poll() is None:
                samples.append(_resident(process.pid))
                time.sleep(0.1)
            assert process.returncode == 0
            assert process.stdout is not None
            peak = int(process.stdout.read())
    tenths = [max(part) for part in np.array_split(np.array(samples), min(10, len(samples)))]
    return {
        "archive_bytes": size,
        "peak_MiB": round(peak / 1024),
        "largest_in_each_tenth_of_the_run_MiB": [round(float(value) / 1024) for value in tenths],
    }


class _program:
    """The step on `folder` in a process of its own; its output folder goes when it is done."""

    def __init__(self, folder: Path) -> None:
        self._output = tempfile.TemporaryDirectory(dir=folder)
        script = Path(self._output.name) / "step.py"
        script.write_text(STEP)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        arguments = [sys.executable, str(script), str(folder), self._output.name, str(SIZE)]
        self._process = subprocess.Popen(
            arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __enter__(self) -> subprocess.Popen:
        return self._process

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self._output.cleanup()


def _resident(pid: int) -> int:
    """KiB; 0 when the process is just ending."""
    try:
        return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])
    except (OSError, IndexError):
        return 0


def seconds(action: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds (of this process and of those it waited for)."""
    before, start = os.times(), time.perf_counter()
    action()
    wall, after = time.perf_counter() - start, os.times()
    return wall, sum(after[:4]) - sum(before[:4])
