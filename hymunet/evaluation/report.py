"""The evaluation as one HTML page that needs no network: pictures inline, no script."""

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from hymunet import metrics
from hymunet.evaluation import pictures

NAMES = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "Precision",
    "hd95": "HD95 (pixels)",
    "hd95_fraction": "HD95 (fraction of the diagonal)",
}
WORST = 12  # cases shown
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 1080px; margin: 2rem auto; padding: 0 1rem }
h1 { margin-bottom: 0 } h2 { margin-top: 2.2rem }
.headline { font-size: 1.4rem; margin: .6rem 0 1rem } .note { color: #555 }
table { border-collapse: collapse } th, td { padding: .3rem .9rem; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left } td { font-variant-numeric: tabular-nums }
img { max-width: 100% }
"""


def page(
    result: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    *,
    info: dict[str, Any],
    parameters: int,
    dataset: dict[str, Any],
    panel: bytes,
    worst: bytes,
    curves: bytes | None,
) -> str:
    """result: metrics.json; rows: per_image.csv; info: model.json; dataset: prepare.json; the rest PNG bytes."""
    test, model = result["test"], info["model"]
    dice = test["dice"]
    sections = [
        f"<h1>{escape(model['name'])} ({escape(str(model.get('size', '')))}) on {test['images']} test images</h1>",
        f"<p class=headline>Dice <b>{dice['mean']:.4f}</b> (95 % CI {dice['low']:.4f} to {dice['high']:.4f}), "
        f"mean over images; {test['missed']} missed altogether</p>",
        _facts(result, info, parameters, dataset),
        "<h2>Scores</h2>",
        _table(test, rows),
        f"<p class=note>{_RULE}</p>",
        _picture("Dice of each test image", pictures.histogram(np.array([row["dice"] for row in rows]))),
        _picture("Best, median and worst cases", panel),
        _picture(f"The {min(len(rows), WORST)} worst cases", worst),
    ]
    if curves is not None:
        sections.append(_picture("Training", curves))
    sections.append("<p class=note>For research use only; not a medical device.</p>")
    body = "\n".join(sections)
    return (
        f"<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>Evaluation of {escape(model['name'])}</title>"
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


_RULE = (
    "Mean, interval and median are over images; the interval is a percentile bootstrap over images. Pooled counts all "
    "pixels of all images as one. HD95 is the larger of the two directed 95th percentiles of contour distances, on the "
    "evaluated grid: the images carry no physical scale. An image whose lesion is missed altogether counts with Dice 0 "
    "and with the image's diagonal as its distance."
)


def _facts(result: dict[str, Any], info: dict[str, Any], parameters: int, dataset: dict[str, Any]) -> str:
    size = result["image_size"]
    facts = {
        "Data": f"{dataset.get('source', '?')}, {dataset.get('images', '?')} images, scored at {size}×{size}",
        "Weights": f"{parameters:,} parameters, epoch {info.get('epoch', '?')}, "
        f"validation Dice {info['validation_dice']:.4f}"
        if "validation_dice" in info
        else f"{parameters:,} parameters",
        "Prediction": f"lesion where the probability exceeds {result['threshold']:g}"
        + (", averaged over flips" if result["flips"] else ""),
    }
    return "<table>" + "".join(f"<tr><td>{name}<td>{escape(text)}" for name, text in facts.items()) + "</table>"


def _table(test: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    lines = ["<table><tr><th>Metric<th>Mean<th>95 % CI<th>Median<th>Pooled"]
    for name in metrics.SCORES:
        digits = 2 if name == "hd95" else 4
        mean, low, high = (f"{test[name][key]:.{digits}f}" for key in ("mean", "low", "high"))
        median = f"{np.median([row[name] for row in rows]):.{digits}f}"
        pooled = f"{test['pooled'][name]:.{digits}f}" if name in test["pooled"] else ""
        lines.append(f"<tr><td>{NAMES[name]}<td>{mean}<td>{low} to {high}<td>{median}<td>{pooled}")
    return "\n".join(lines) + "\n</table>"


def _picture(title: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return f'<h2>{escape(title)}</h2>\n<img alt="{escape(title)}" src="data:image/png;base64,{data}">'
