"""The pictures and figures that a training leaves: history.json, curves.png, predictions; each whole or absent."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hymunet import atomic

TRUE, PREDICTED = (64, 220, 64), (240, 60, 200)  # RGB of the contours


Examples = tuple[Sequence[np.ndarray], Sequence[np.ndarray], Tensor]
"""Images (n, S, S, 3), true masks (n, S, S), predicted masks (n, S, S)."""


def write_reports(folder: Path, history: list[dict[str, Any]], examples: Mapping[str, Examples]) -> None:
    """history.json and curves.png of the epochs so far, examples/epoch-NNNN.png for every epoch with examples."""
    atomic.write(folder / "history.json", json.dumps(history, indent=1) + "\n")
    atomic.write(folder / "curves.png", curves(history))
    for epoch, (images, masks, predictions) in examples.items():
        atomic.write(folder / "examples" / f"epoch-{epoch}.png", contours(images, masks, predictions.numpy()))


def curves(history: list[dict[str, Any]]) -> bytes:
    """PNG: loss, validation Dice with the selected epoch, learning rate."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = [record["epoch"] for record in history]
    figure = Figure(figsize=(12, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    loss, dice, rate = figure.subplots(1, 3)
    loss.plot(epochs, [np.nan if record["loss"] is None else record["loss"] for record in history], color="#c44e52")
    loss.set(title="training loss", xlabel="epoch")
    values = [record["validation_dice"] for record in history]
    best = int(np.argmax(values))
    dice.plot(epochs, values, color="#4c72b0")
    dice.plot(epochs[best], values[best], "o", color="#4c72b0")
    dice.annotate(
        f"{values[best]:.4f}", (epochs[best], values[best]), (0, -14), textcoords="offset points", ha="center"
    )
    dice.set(title="validation Dice, mean per image", xlabel="epoch")
    rates = [record["learning_rate"] for record in history]
    rate.plot(epochs, rates, color="#55a868")
    rate.set(title="learning rate", xlabel="epoch", yscale="log" if any(rates) else "linear")
    for axes in (loss, dice, rate):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def contours(images: Sequence[np.ndarray], masks: Sequence[np.ndarray], predictions: np.ndarray) -> bytes:
    """PNG: the images side by side, true contours in green, predicted ones in magenta."""
    import cv2

    panels = []
    for image, mask, prediction in zip(images, masks, predictions, strict=True):
        scale = max(1, round(256 / image.shape[0]))
        panel = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        for shape, colour in ((mask, TRUE), (prediction, PREDICTED)):
            large = cv2.resize(shape.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
            lines, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(panel, lines, -1, colour, 1, cv2.LINE_AA)
        panels.append(panel)
    _, encoded = cv2.imencode(".png", cv2.cvtColor(np.hstack(panels), cv2.COLOR_RGB2BGR))
    return encoded.tobytes()
