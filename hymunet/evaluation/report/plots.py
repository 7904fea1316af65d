"""Plots as inline SVG: text stays text, colours come from the page's light or dark style, no library runs in it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 42


class Axes:
    """A frame with ticks; `x` and `y` turn values into places."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], labels: tuple[str, str]) -> None:
        self._x, self._y, self._labels = x, y, labels
        self.parts: list[str] = []

    def x(self, value: float) -> float:
        low, high = self._x
        return round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self._y
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        places = " ".join(f"{self.x(a)},{self.y(b)}" for a, b in points)
        self.parts.append(f'<polyline class="{kind}" points="{places}"/>')

    def dots(self, points: Sequence[tuple[float, float]], kind: str, titles: Sequence[str]) -> None:
        for (a, b), title in zip(points, titles, strict=True):
            self.parts.append(
                f'<circle class="{kind}" cx="{self.x(a)}" cy="{self.y(b)}" r="3.5"><title>{title}</title></circle>'
            )

    def case(self, x: float, y: float, row: int, title: str) -> None:
        """A dot that stands for a row of the page's cases."""
        self.parts.append(
            f'<circle class="first dot" cx="{self.x(x)}" cy="{self.y(y)}" r="3.5" data-row="{row}">'
            f"<title>{escape(title)}</title></circle>"
        )

    def bar(self, x: tuple[float, float], height: float, kind: str, title: str) -> None:
        left, right, top, bottom = self.x(x[0]), self.x(x[1]), self.y(height), self.y(self._y[0])
        width = round(right - left - 1, 1)
        self.parts.append(
            f'<rect class="{kind}" x="{left}" y="{top}" width="{width}" height="{round(bottom - top, 1)}">'
            f"<title>{title}</title></rect>"
        )

    def svg(self, title: str) -> Markup:
        ticks = []
        for value in _ticks(*self._x):
            ticks.append(f'<text x="{self.x(value)}" y="{HEIGHT - BOTTOM + 16}" class="tick mid">{value:g}</text>')
        for value in _ticks(*self._y):
            y = self.y(value)
            ticks.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
            ticks.append(f'<text x="{LEFT - 7}" y="{y + 4}" class="tick end">{value:g}</text>')
        along, up = self._labels
        middle = (TOP + HEIGHT - BOTTOM) / 2
        ticks.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" class="label mid">{along}</text>')
        ticks.append(f'<text x="13" y="{middle}" class="label mid" transform="rotate(-90 13 {middle})">{up}</text>')
        body = "".join(ticks + self.parts)
        return Markup(f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{body}</svg>')


def histogram(dice: Sequence[float]) -> Markup:
    counts, edges = np.histogram(dice, 25, (0, 1))
    axes = Axes((0, 1), (0, max(1, int(counts.max()) * 1.08)), ("Dice of one image", "images"))
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        if count:
            axes.bar((low, high), count, "bar", f"{count} images from {low:.2f} to {high:.2f}")
    mean, median = float(np.mean(dice)), float(np.median(dice))
    top = max(1, int(counts.max()) * 1.08)
    axes.line([(mean, 0), (mean, top)], "mean")
    axes.line([(median, 0), (median, top)], "median")
    return axes.svg(f"Distribution of Dice over images: mean {mean:.3f}, median {median:.3f}")


def reliability(whole: dict[str, Any], band: dict[str, Any] | None) -> Markup:
    axes = Axes((0, 1), (0, 1), ("predicted probability", "share that is lesion"))
    axes.line([(0, 0), (1, 1)], "ideal")
    for part, kind in ((whole, "first"), (band, "second")):
        if part:
            points = [(point["probability"], point["lesion"]) for point in part["reliability"]]
            axes.line(points, kind)
            titles = [
                f"{point['pixels']:,} pixels: {point['probability']:.3f} predicted, {point['lesion']:.3f} lesion"
                for point in part["reliability"]
            ]
            axes.dots(points, f"{kind} dot", titles)
    return axes.svg("Reliability: predicted probability against the share of pixels that are lesion")


def risk_coverage(found: dict[str, Any]) -> Markup:
    points = [(point["coverage"], point["risk"]) for point in found["curve"]]
    top = max(0.02, max(risk for _, risk in points) * 1.15)
    axes = Axes((0, 1), (0, top), ("share of images kept, the surest first", "1 - Dice, mean"))
    axes.line([(0, found["aurc_random"]), (1, found["aurc_random"])], "ideal")
    axes.line(points, "first")
    return axes.svg("Risk against coverage")


def interval(estimate: dict[str, float], low: float, high: float, reference: float) -> Markup:
    """A mean with its interval on a common scale from low to high, and a mark at the reference."""

    def place(value: float) -> float:
        return round(4 + 152 * (min(max(value, low), high) - low) / (high - low), 1)

    mean, mark = place(estimate["mean"]), place(reference)
    ends = place(estimate["low"]), place(estimate["high"])
    return Markup(
        '<svg class="interval" viewBox="0 0 160 18" aria-hidden="true">'
        f'<line class="ideal" x1="{mark}" x2="{mark}" y1="0" y2="18"/>'
        f'<line class="first" x1="{ends[0]}" x2="{ends[1]}" y1="9" y2="9"/>'
        f'<circle class="first dot" cx="{mean}" cy="9" r="4"/></svg>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round values."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(float(power * factor) for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = int(np.ceil(low / step - 1e-9))
    return [round(step * count, 10) for count in range(first, int(high / step + 1e-9) + 1)]
