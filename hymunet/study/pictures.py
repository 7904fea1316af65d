"""Two pictures of a comparison, as SVG: differences with their intervals, and ranks with how often each is taken."""

import hashlib
import io
import json
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from hymunet.evaluation.statistics import Comparison, Ranking

OURS, LINE = "#4c78a8", "#666666"
WIDE = 90  # letters on a line below the picture
FAR = 4  # times the median reach of the intervals: a difference beyond it is an arrow at the edge
STAMP = re.compile(r"<!-- drawn from [0-9a-f]{64} -->\n\Z")


def forest(found: Sequence[Comparison], titles: Sequence[str], reference: str) -> str:
    """By how many points of Dice the reference leads each model; the interval leaves 0 out where that is no chance.
    One far from all others is an arrow, so that the others can be told apart."""
    figure, axis = _figure(len(found))
    places = np.arange(len(found))[::-1]
    left, right = limits(found)
    for place, one in zip(places, found, strict=True):
        mean, low, high = (100 * value for value in (one.difference.mean, one.difference.low, one.difference.high))
        if left <= mean <= right:
            style = "-" if one.difference.seeds else ":"
            axis.plot([low, high], [place, place], color=OURS, linewidth=1.8, linestyle=style)
            axis.plot(mean, place, "s", color=OURS, markersize=6)
        else:
            axis.plot(right if mean > right else left, place, ">" if mean > right else "<", color=OURS, clip_on=False)
        text = f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"
        axis.annotate(text, (1.04, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    axis.axvline(0, color=LINE, linewidth=0.8)
    axis.set(yticks=places, yticklabels=titles, ylim=(-0.6, len(found) - 0.4), xlim=(left, right))
    below = textwrap.fill(f"{reference} leads by, points of Dice (95 %; dotted: over images alone)", WIDE)
    figure.supxlabel(below, fontsize="medium")
    return _svg(figure, [[*titles], below, [vars(one.difference) for one in found], left, right])


def limits(found: Sequence[Comparison]) -> tuple[float, float]:
    """Of the axis, points of Dice: 0 and every interval but those that are far away."""
    ends = 100 * np.array([[one.difference.low, one.difference.high] for one in found])
    near = ends[np.abs(ends.mean(1)) <= FAR * np.median(np.abs(ends).max(1))]
    left, right = min(0.0, float(near.min())), max(0.0, float(near.max()))
    margin = 0.05 * (right - left) or 1.0
    return left - margin, right + margin


def ranks(ranking: Ranking, titles: Sequence[str]) -> str:
    """A disc's area: how often a model takes a rank when images, and its seeds where it has several, are drawn anew.
    The cross: its rank here."""
    order = np.argsort(ranking.ranks, kind="stable")
    figure, axis = _figure(len(titles))
    places = np.arange(len(titles))[::-1]
    for place, model in zip(places, order, strict=True):
        shares = ranking.shares[model]
        taken = np.flatnonzero(shares)
        axis.scatter(taken + 1, np.full(len(taken), place), s=320 * shares[taken], color=OURS, alpha=0.75, linewidths=0)
        axis.plot(ranking.ranks[model], place, "x", color="black", markersize=5)
    axis.set(xticks=range(1, len(titles) + 1), xlim=(0.4, len(titles) + 0.6))
    axis.set(yticks=places, yticklabels=[titles[model] for model in order], ylim=(-0.6, len(titles) - 0.4))
    axis.set_xlabel(f"rank by mean Dice (Kendall's tau under resampling {ranking.tau:.2f})")
    return _svg(figure, [[*titles], ranking.ranks.tolist(), ranking.shares.round(6).tolist(), round(ranking.tau, 6)])


def stamp(svg: str) -> str | None:
    """What a picture was drawn from; two with the same stamp show the same."""
    found = STAMP.search(svg)
    return found[0] if found else None


def _figure(rows: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 1.1 + 0.32 * rows), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    return figure, axis


def _svg(figure: Any, drawn_from: Any) -> str:
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.hashsalt": "hymunet"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    rounded = json.loads(json.dumps(drawn_from), parse_float=lambda number: round(float(number), 8))
    digest = hashlib.sha256(json.dumps(rounded).encode()).hexdigest()
    return f"{text.getvalue()}<!-- drawn from {digest} -->\n"
