"""The scores of one image, ours against MONAI's and against scipy's, on one core.

    python -m benchmarks.metrics --json benchmarks/results/metrics.json

Masks are lesion-like blobs and a prediction that differs along its border, on grids of 128 to 2,048 pixels. All three
compute Dice, HD95 and the normalised surface distance at one tolerance; ours computes all of its scores. Each figure is
the median over the pairs of the best of several runs; what they compute is compared first.
"""

import argparse
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
from scipy import ndimage

from hymunet.evaluation.measure import image_scores

SIZES = {128: 40, 256: 40, 512: 20, 1024: 8, 2048: 4}
TOLERANCE = 2.0
Pair = tuple[np.ndarray, np.ndarray]
Scores = dict[str, float]


def pairs(size: int, count: int, seed: int = 0) -> list[Pair]:
    """One lesion each, a fifth of the image wide, and the same with another, smoothly displaced border."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    result = []
    for _ in range(count):
        radius = rng.uniform(0.12, 0.36)
        centre = rng.uniform(0.36, 0.64, 2)
        distance = np.hypot(rows - centre[0], columns - centre[1]) / radius - 1
        first, second = (
            cv2.resize(rng.uniform(-1, 1, (12, 12)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
            for _ in range(2)
        )
        truth = distance + 0.2 * first < 0
        result.append((distance + 0.2 * first + 0.08 * second < 0, truth))
    return result


def ours(prediction: np.ndarray, truth: np.ndarray) -> Scores:
    scores = image_scores(prediction, truth)
    return {"dice": scores["dice"], "hd95": scores["hd95"], "nsd": scores["nsd_2px"]}


def with_scipy(prediction: np.ndarray, truth: np.ndarray) -> Scores:
    """As the definitions are usually written: erosions, and one distance transform of the image for each contour."""
    contours = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction, truth)]
    fields = [ndimage.distance_transform_edt(~contour) for contour in contours]
    directed = fields[1][contours[0]], fields[0][contours[1]]
    both = np.concatenate(directed)
    return {
        "dice": 2 * np.sum(prediction & truth) / (np.sum(prediction) + np.sum(truth)),
        "hd95": max(np.percentile(one, 95) for one in directed),
        "nsd": np.mean(both <= TOLERANCE),
    }


def with_monai(prediction: np.ndarray, truth: np.ndarray) -> Scores:
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

    a, b = (torch.from_numpy(mask)[None, None] for mask in (prediction, truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "dice": compute_dice(a, b).item(),
            "hd95": compute_hausdorff_distance(a, b, include_background=True, percentile=95).item(),
            "nsd": compute_surface_dice(a, b, [TOLERANCE], include_background=True).item(),
        }


def seconds(function: Callable[[np.ndarray, np.ndarray], Scores], pair: Pair, runs: int) -> float:
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        function(*pair)
        taken.append(time.perf_counter() - start)
    return min(taken)


def measure(size: int, count: int, runs: int) -> dict[str, float]:
    ways = {"ours": ours, "scipy": with_scipy, "monai": with_monai}
    drawn = pairs(size, count)
    for pair in drawn[:4]:
        expected = ours(*pair)
        for name, way in ways.items():
            np.testing.assert_allclose(
                [way(*pair)[key] for key in expected], list(expected.values()), 1e-5, err_msg=name
            )
    times = {name: 1e3 * float(np.median([seconds(way, pair, runs) for pair in drawn])) for name, way in ways.items()}
    return {
        "size": size,
        **{f"{name}_ms": round(value, 3) for name, value in times.items()},
        **{f"times_{name}": round(times[name] / times["ours"], 1) for name in ("scipy", "monai")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rows = []
    for size in arguments.sizes:
        rows.append(measure(size, SIZES.get(size, 4), arguments.runs))
        print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        record = {"machine": platform.processor() or platform.machine(), "threads": 1, "sizes": rows}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
