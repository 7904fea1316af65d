"""Per-image Dice over the validation images, computed on the device and shared out over the ranks."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from hymunet.data.feed.dataset import Subset
from hymunet.images import normalise
from hymunet.metrics import dice_from_counts
from hymunet.training.distributed import Ranks

THRESHOLD = 0.0  # of the logit: probability one half


class Validation:
    """Holds the uint8 validation split on the device; every image counts once, whatever the number of ranks."""

    def __init__(self, subset: Subset, batch_size: int, device: torch.device, ranks: Ranks) -> None:
        self.count, self.batch_size, self.ranks = len(subset), batch_size, ranks
        self.rows = torch.arange(ranks.rank, self.count, ranks.count)
        images, masks = subset.arrays()
        self.images = torch.from_numpy(images[self.rows.numpy()]).to(device)
        self.masks = torch.from_numpy(masks[self.rows.numpy()]).to(device)

    @torch.inference_mode()
    def dice(self, model: nn.Module, autocast: AbstractContextManager) -> float:
        """Mean over images of 2·TP / (predicted + true); an image that is empty in both counts as 1."""
        scores = torch.zeros(self.count, dtype=torch.float64)
        for start in range(0, len(self.rows), self.batch_size):
            window = slice(start, start + self.batch_size)
            with autocast:
                logits = model(normalise(self.images[window]))
            scores[self.rows[window]] = image_dice(logits[:, 0] > THRESHOLD, self.masks[window] > 0).double().cpu()
        return float(self.ranks.sum(scores).mean())

    def chosen(self, count: int) -> Tensor:
        """Positions in the split of up to `count` images spread over this rank's part of it."""
        return self.rows[torch.linspace(0, len(self.rows) - 1, min(count, len(self.rows))).long()]

    @torch.inference_mode()
    def examples(self, model: nn.Module, autocast: AbstractContextManager, count: int) -> Tensor:
        """Predicted masks of the `chosen` images: bool (count, S, S) on the CPU."""
        local = torch.searchsorted(self.rows, self.chosen(count)).to(self.images.device)
        with autocast:
            logits = model(normalise(self.images[local]))
        return (logits[:, 0] > THRESHOLD).cpu()


def image_dice(prediction: Tensor, truth: Tensor) -> Tensor:
    """bool (B, S, S) twice -> float32 (B,)."""
    overlap, predicted, true = ((mask.sum((1, 2))) for mask in (prediction & truth, prediction, truth))
    return dice_from_counts(overlap, predicted, true)
