"""One page about a batch of predictions: how many, how sure, and how far from the training's images."""

import html
from typing import Any

STYLE = "body{font:15px/1.5 sans-serif;margin:2em}td,th{padding:.2em .8em;text-align:left}.bad{color:#a00}"
MODERATE, LARGE = 0.1, 0.25  # of the population stability index, as it is commonly read
SHOWN = 50


def page(told: dict[str, Any]) -> str:
    """told: what drift.json says. Needs nothing from elsewhere."""
    parts = [f"<h1>{told['images']:,} images segmented</h1><p>{html.escape(told['model'])}</p>"]
    if sure := told["confidence"]:
        text = f"Confidence: median {sure['median']:.3f}, a tenth under {sure['lowest_tenth']:.3f}"
        parts.append(f"<p>{text}, {sure['under_0.8']:.1%} of images under 0.8.</p>")
    parts.append(_drift(told["drift"]))
    if problems := told["problems"]:
        shown = "".join(f"<li>{html.escape(one)}" for one in problems[:SHOWN])
        parts.append(f"<h2 class=bad>{len(problems):,} images cannot be read</h2><ul>{shown}</ul>")
    return f"<!doctype html><meta charset=utf-8><title>Predictions</title><style>{STYLE}</style>{''.join(parts)}"


def _drift(drift: dict[str, Any] | None) -> str:
    if drift is None:
        return "<p>Not compared with the training's images: no run was named.</p>"
    head = "<tr><th>measure<th>median<th>training's median<th>stability index<th>beyond the training's range</tr>"
    rows = []
    for name, one in drift["measures"].items():
        word = "large shift" if one["psi"] > LARGE else "some shift" if one["psi"] > MODERATE else "no shift"
        mark = " class=bad" if one["psi"] > LARGE else ""
        rows.append(
            f"<tr><td>{html.escape(name)}<td>{one['median']:.4g}<td>{one['reference_median']:.4g}"
            f"<td{mark}>{one['psi']:.3f}, {word}<td>{one['beyond']:.1%}</tr>"
        )
    text = f"{drift['out_of_distribution']:.1%} of {drift['images']:,} images are beyond what all but 1 % of the"
    text += f" {drift['reference_images']:,} training images show, in some measure."
    return f"<h2>Against the training's images</h2><p>{text}</p><table>{head}{''.join(rows)}</table>"
