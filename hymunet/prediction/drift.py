"""How far images are from those that a model was trained on, by what can be measured without knowing the truth.

For each measure: the population stability index over the reference's deciles (Siddiqi, Credit Risk Scorecards, 2006;
under 0.1 is read as no shift, over 0.25 as a large one), and the share of images beyond all but 0.5 % of the reference
at either end. An image is out of distribution where any measure of it is beyond.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hymunet.evaluation.familiar import SEEN, TAIL

MEASURES = ("megapixels", "aspect", *SEEN, "area_fraction")
BINS, FLOOR = 10, 1e-4


def measured(width: int, height: int, area_fraction: float, seen: Mapping[str, float]) -> dict[str, float]:
    """Of one image at its native size; of a reference and of what is compared with it alike.

    seen: as `familiar.seen` gives it.
    """
    return {"megapixels": width * height / 1e6, "aspect": width / height, **seen, "area_fraction": area_fraction}


def profile(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """What is kept of a reference: for each measure its deciles and its ends. ValueError for fewer than 20 images."""
    if len(rows) < 2 * BINS:
        raise ValueError(f"{len(rows)} images are too few to compare others with; at least {2 * BINS}")
    measures = {}
    for name in MEASURES:
        values = np.array([row[name] for row in rows], np.float64)
        edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
        measures[name] = {
            "edges": edges.tolist(),
            "shares": _shares(values, edges).tolist(),
            "ends": np.quantile(values, [TAIL, 1 - TAIL]).tolist(),
            "median": float(np.median(values)),
        }
    return {"images": len(rows), "measures": measures}


def compare(reference: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """rows: of the images looked at, as `measured` gives them. ValueError without any."""
    if not rows:
        raise ValueError("no image was measured; there is nothing to compare")
    told, beyond = {}, np.zeros(len(rows), bool)
    for name, known in reference["measures"].items():
        values = np.array([row[name] for row in rows], np.float64)
        low, high = known["ends"]
        outside = (values < low) | (values > high)
        beyond |= outside
        told[name] = {
            "psi": round(_stability(np.array(known["shares"]), _shares(values, np.array(known["edges"]))), 4),
            "beyond": round(float(outside.mean()), 4),
            "median": float(np.median(values)),
            "reference_median": known["median"],
        }
    return {
        "images": len(rows),
        "reference_images": reference["images"],
        "out_of_distribution": round(float(beyond.mean()), 4),
        "measures": told,
    }


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return counts / counts.sum()


def _stability(expected: np.ndarray, found: np.ndarray) -> float:
    expected, found = np.maximum(expected, FLOOR), np.maximum(found, FLOOR)
    return float(((found - expected) * np.log(found / expected)).sum())
