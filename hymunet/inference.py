"""From images to masks: what evaluation, the served model and the command line share."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from hymunet.images import check, normalise, resize

FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def probabilities(
    model: nn.Module,
    images: np.ndarray,
    flips: bool = False,
    batch_size: int = 16,
    progress: Callable[[int], object] = lambda count: None,
) -> np.ndarray:
    """uint8 RGB (N, S, S, 3) -> probability of lesion per pixel, float32 (N, S, S).

    flips: the mean over the image, its mirror images and its half-turn, each turned back. progress: called with the
    number of images after each batch. The model must be in evaluation mode; it computes in float32.
    """
    target = next(model.parameters()).device
    result = np.empty(images.shape[:3], np.float32)
    for start in range(0, len(images), batch_size):
        batch = normalise(torch.from_numpy(np.array(images[start : start + batch_size])).to(target))
        result[start : start + len(batch)] = _mean_over_flips(model, batch, FLIPS if flips else FLIPS[:1]).cpu().numpy()
        progress(len(batch))
    return result


def segment(
    model: nn.Module, images: Sequence[np.ndarray], image_size: int, threshold: float, flips: bool = False
) -> list[np.ndarray]:
    """uint8 RGB images (H, W, 3), each of any size -> their masks uint8 (H, W), 0 or 1, each at its image's size.

    The model sees images at image_size×image_size, as in training; its probabilities are interpolated back.
    Raises ValueError for what is no uint8 RGB image.
    """
    for image in images:
        check(image)
    if not len(images):
        return []
    found = probabilities(model, np.stack([resize(image, image_size) for image in images]), flips)
    return [
        (cv2.resize(probability, image.shape[1::-1], interpolation=cv2.INTER_LINEAR) > threshold).astype(np.uint8)
        for probability, image in zip(found, images, strict=True)
    ]


def _mean_over_flips(model: nn.Module, batch: Tensor, flips: tuple[tuple[int, ...], ...]) -> Tensor:
    total = torch.zeros(batch.shape[0], *batch.shape[2:], device=batch.device)
    for axes in flips:
        flipped = batch.flip(axes).contiguous(memory_format=torch.channels_last) if axes else batch
        total += torch.sigmoid(model(flipped).float())[:, 0].flip(axes)
    return total / len(flips)
