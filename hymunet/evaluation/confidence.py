"""How sure the model is of one image, without its truth, and what it is worth to send the least sure to a person.

The confidence is the soft Dice confidence of Borges et al. 2024 (arXiv 2402.10665): the Dice between the mask and the
probabilities themselves. An image in which nothing was found has confidence 0: it is the first to be looked at.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hymunet.metrics import FAILED

SUSPICIOUS = 0.3  # confidence less Dice above which a mask is one to look at again
SENT = 0.1  # the share that goes to a person, in the sentence of the report
POINTS = 100  # of the curve that is kept


def soft_dice(probability: np.ndarray, mask: np.ndarray) -> float:
    """2 Σ p·m / Σ (p + m) in [0, 1]: probabilities float32 (H, W) and the mask (H, W) made from them; 0 without one."""
    inside = mask > 0
    area = np.count_nonzero(inside)
    if not area:
        return 0.0
    return float(2 * probability[inside].sum(dtype=np.float64) / (probability.sum(dtype=np.float64) + area))


def selective(confidence: Sequence[float], dice: Sequence[float], iou: Sequence[float]) -> dict[str, Any]:
    """The risk–coverage curve (risk: mean 1 - Dice of the surest images), the areas under it, and what sending does.

    Of images of equal confidence none goes first: each counts with their mean. `aurc_best` is that of an order by Dice
    itself, `aurc_random` that of none.
    """
    order = np.argsort(-np.asarray(confidence), kind="stable")
    sure, risk = np.asarray(confidence)[order], 1 - np.asarray(dice, np.float64)[order]
    failed = (np.asarray(iou) < FAILED)[order].astype(np.float64)
    count = len(order)
    even_risk, even_failed = _evened(sure, risk), _evened(sure, failed)
    kept = np.arange(1, count + 1)
    curve = np.cumsum(even_risk) / kept
    stay = count - int(np.ceil(SENT * count))
    chosen = np.unique(np.linspace(0, count - 1, min(POINTS, count)).astype(int))
    return {
        "aurc": float(curve.mean()),
        "aurc_best": float((np.cumsum(np.sort(risk)) / kept).mean()),
        "aurc_random": float(risk.mean()),
        "curve": [{"coverage": float(kept[i] / count), "risk": float(curve[i])} for i in chosen],
        "sent": {
            "images": count - stay,
            "dice_of_rest": float(1 - curve[stay - 1]) if stay else None,
            "failures": int(failed.sum()),
            "failures_sent": float(even_failed[stay:].sum()),
        },
    }


def sentence(found: dict[str, Any], dice: float) -> str:
    """found: as `selective` gives it; dice: of all images."""
    sent = found["sent"]
    if sent["dice_of_rest"] is None:
        return "Too few images to send some of them to a person."
    part = f"Send the {sent['images']} least sure images ({SENT:.0%}) to a person: Dice on the rest is "
    part += f"{sent['dice_of_rest']:.4f} instead of {dice:.4f}"
    if not sent["failures"]:
        return f"{part}. No image failed (IoU under {FAILED})."
    failures = f"{sent['failures']} failure{'s' if sent['failures'] != 1 else ''}"
    return f"{part}; {sent['failures_sent']:g} of {failures} (IoU under {FAILED}) among them."


def suspicious(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Images whose mask a sure model contradicts, the most contradicted first: either is wrong, and both look sure.

    rows: with `suspicion`, how far the confidence exceeds the Dice. `area_error`: above 0 where the model finds more
    than the mask has.
    """
    found = [row for row in rows if row["suspicion"] > SUSPICIOUS]
    names = ("id", "suspicion", "confidence", "dice", "area_error", "missed_lesions", "wrong_objects")
    return [
        {name: row[name] for name in names} for row in sorted(found, key=lambda row: (-row["suspicion"], row["id"]))
    ]


def _evened(keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Each value replaced by the mean of those with its key; equal keys stand together."""
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    lengths = np.diff(np.append(starts, len(keys)))
    return np.repeat(np.add.reduceat(values, starts) / lengths, lengths)
