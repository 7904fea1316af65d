"""Per-image Dice over the validation images, computed on the device and shared out over the ranks."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor, nn

from hymunet.data.feed.dataset import Subset
from hymunet.images import normalise
from hymunet.metrics import dice_from_counts
from hymunet.training.capture import Graph
from hymunet.training.distributed import Ranks
from hymunet.training.state import Tensors

THRESHOLD = 0.0  # of the logit: probability one half


class Validation:
    """Holds the uint8 validation split on the device; every image counts once, whatever the number of ranks.

    The host waits for the device once, at the end. What runs for a batch can be compiled and captured; then the last
    batch is filled up with images whose scores nobody takes, so that all are of one shape.
    """

    def __init__(self, subset: Subset, batch_size: int, device: torch.device, ranks: Ranks) -> None:
        self.subset, self.count = subset, len(subset)
        self.batch_size, self.device, self.ranks = batch_size, device, ranks
        self.rows = torch.arange(self.count)[ranks.rank :: ranks.count]  # none where there are more ranks than images
        images, masks = subset.arrays()
        self.images = torch.from_numpy(images[self.rows.numpy()]).to(device)
        self.masks = torch.from_numpy(masks[self.rows.numpy()]).to(device)
        self.graph: Graph | None = None

    @torch.no_grad()
    def capture(self, model: nn.Module, autocast: Callable[[], AbstractContextManager], *, compiled: bool) -> None:
        """From here on `dice` replays one graph: this model, in evaluation mode now, with its weights of then.

        Raises RuntimeError where the model cannot be captured.
        """

        def score(inputs: Tensors) -> Tensor:
            return self._score(model, autocast(), inputs["rows"])

        function = torch.compile(score, dynamic=False) if compiled else score
        first = torch.zeros(self.batch_size, dtype=torch.int64)
        self.graph = Graph(function, {"rows": first}, self.device)

    @torch.no_grad()
    def dice(self, model: nn.Module, autocast: AbstractContextManager) -> float:
        """Mean over images of 2·TP / (predicted + true); an image that is empty in both counts as 1."""
        found = []
        for start in range(0, len(self.rows), self.batch_size):
            rows = torch.arange(start, min(start + self.batch_size, len(self.rows)))
            if self.graph is None:
                found.append(self._score(model, autocast, slice(start, start + self.batch_size)))
            else:
                filled = torch.cat([rows, rows.new_zeros(self.batch_size - len(rows))])
                found.append(self.graph({"rows": filled})[: len(rows)].clone())
        scores = torch.zeros(self.count, dtype=torch.float64)
        if found:
            scores[self.rows] = torch.cat(found).double().cpu()
        return float(self.ranks.sum(scores).mean())

    def _score(self, model: nn.Module, autocast: AbstractContextManager, rows: Tensor | slice) -> Tensor:
        with autocast:
            logits = model(normalise(self.images[rows]))
        return image_dice(logits[:, 0] > THRESHOLD, self.masks[rows] > 0)

    def chosen(self, count: int) -> Tensor:
        """Positions in the split of up to `count` images spread over it, the same for any number of ranks."""
        return torch.linspace(0, self.count - 1, min(count, self.count)).long()

    @torch.inference_mode()
    def examples(self, model: nn.Module, autocast: AbstractContextManager, count: int) -> Tensor:
        """Predicted masks of the `chosen` images: bool (count, S, S) on the CPU."""
        images = np.stack([self.subset[position][0] for position in self.chosen(count).tolist()])
        with autocast:
            logits = model(normalise(torch.from_numpy(images).to(self.device)))
        return (logits[:, 0] > THRESHOLD).cpu()


def image_dice(prediction: Tensor, truth: Tensor) -> Tensor:
    """bool (B, S, S) twice -> float32 (B,)."""
    overlap, predicted, true = ((mask.sum((1, 2))) for mask in (prediction & truth, prediction, truth))
    return dice_from_counts(overlap, predicted, true)
