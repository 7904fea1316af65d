"""Pictures of cases, true contour against predicted. PNG bytes, equal for equal input."""

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

TRUTH, PREDICTION = "#00c2ff", "#ffb000"  # told apart by every kind of colour vision, and by solid against dashed

BAND = 256  # rows
SHOWN = 36  # letters of a name above its picture


@dataclass(frozen=True)
class Case:
    """One test image: uint8 RGB (S, S, 3), masks (S, S), and its row of scores."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    scores: dict[str, float]


def panel(groups: dict[str, list[Case]]) -> bytes:
    """One row of pictures per group, such as best, median and worst."""
    columns = max(map(len, groups.values()))
    figure, axes = _grid(len(groups), columns, top=0.35)
    for row, (title, cases) in zip(axes, groups.items(), strict=True):
        for axis, case in zip(row, cases, strict=False):
            _draw(axis, case)
        row[0].set_ylabel(title, fontsize=13, fontweight="bold")
        for axis in row[len(cases) :]:
            axis.set_visible(False)
    _legend(figure)
    return _png(figure)


def gallery(cases: list[Case], columns: int = 4) -> bytes:
    rows = -(-len(cases) // columns)
    figure, axes = _grid(rows, columns, top=0.35)
    for axis, case in zip(axes.ravel(), cases, strict=False):
        _draw(axis, case)
    for axis in axes.ravel()[len(cases) :]:
        axis.set_visible(False)
    _legend(figure)
    return _png(figure)


def histogram(dice: np.ndarray) -> bytes:
    """How the images' Dice scores are distributed; mean and median marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axis = figure.subplots()
    axis.hist(dice, bins=np.linspace(0, 1, 41).tolist(), color="#4c78a8", edgecolor="white", linewidth=0.5)
    axis.axvline(float(dice.mean()), color="#d62728", label=f"mean {dice.mean():.3f}")
    axis.axvline(float(np.median(dice)), color="black", linestyle="--", label=f"median {np.median(dice):.3f}")
    axis.set(xlabel="Dice of one test image", ylabel="images", xlim=(0, 1))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="upper left")
    return _png(figure)


def overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The RGB image (H, W, 3) with the mask's (H, W) contour drawn in and its inside lightly tinted; uint8 BGR, same
    size. Beside the result a band of it is in memory at a time.
    """
    import cv2

    colour = tuple(int(PREDICTION[i : i + 2], 16) for i in (5, 3, 1))
    tints = np.round(0.8 * np.arange(256)[:, None] + 0.2 * np.array(colour)).astype(np.uint8)
    result = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    for start in range(0, len(result), BAND):
        band = result[start : start + BAND]
        cv2.copyTo(cv2.LUT(band, tints[None]), mask[start : start + BAND], band)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(min(image.shape[:2]) / 200))
    return cv2.drawContours(result, contours, -1, colour, width, cv2.LINE_AA)


def _grid(rows: int, columns: int, top: float) -> tuple[Any, np.ndarray]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * columns, 2.95 * rows + top), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _draw(axis: Any, case: Case) -> None:
    axis.imshow(case.image, interpolation="antialiased")
    for mask, colour, style in ((case.truth, TRUTH, "solid"), (case.prediction, PREDICTION, "dashed")):
        if mask.any():
            # A frame of background, so that a lesion cut by the image's edge has a closed contour.
            x, y = (np.arange(-1, side + 1) for side in mask.shape[::-1])
            axis.contour(x, y, np.pad(mask, 1), levels=[0.5], colors=[colour], linestyles=[style], linewidths=1.6)
    height, width = case.truth.shape
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    name = case.name if len(case.name) <= SHOWN else f"{case.name[: SHOWN - 1]}…"
    axis.set_title(
        f"{name}\nDice {case.scores['dice']:.3f}   HD95 {case.scores['hd95']:.1f} px", fontsize=9, parse_math=False
    )  # names may hold $


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    figure.legend(
        handles=[
            Line2D([], [], color=TRUTH, label="truth"),
            Line2D([], [], color=PREDICTION, linestyle="dashed", label="prediction"),
        ],
        loc="outside lower center",
        ncols=2,
        frameon=False,
    )


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # of a name in another script: boxes stand for it
        figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return content.getvalue()
