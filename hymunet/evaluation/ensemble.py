"""Several trained models as one segmenter: the mean of their probabilities."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from torch import nn

from hymunet.inference import Segmenter

SHARED = {
    "image_size": "saw images of other sizes",
    "data_sha256": "were trained on other images",
    "split_sha256": "were trained by other splits, so that one may have seen what another is tested on",
}


@dataclass(frozen=True)
class Ensemble(Segmenter):
    """members: each computes with its own flips and temperature; the mask is cut from the mean of their probabilities.

    model: all members' networks, in a list that computes nothing by itself. flips: whether any member has them.
    largest_region: whether every member keeps that alone.
    """

    members: tuple[Segmenter, ...] = ()

    @classmethod
    def of(cls, members: Sequence[Segmenter], names: Sequence[str]) -> Self:
        """names: what a user calls them. The threshold is the mean of theirs, the weights' hash that of their sorted
        hashes.

        Raises ValueError for weights that are named twice, and for models of other sizes, images or splits.
        """
        infos = [member.info for member in members]
        weights: dict[str, str] = {}
        for name, info in zip(names, infos, strict=True):
            if info["weights_sha256"] in weights:
                earlier = weights[info["weights_sha256"]]
                raise ValueError(f"{name}: the same weights as {earlier}; an ensemble is of different models")
            weights[info["weights_sha256"]] = name
        for key, what in SHARED.items():
            if len({str(info.get(key)) for info in infos}) > 1:
                values = (f"{name}: {str(info.get(key))[:12]}" for name, info in zip(names, infos, strict=True))
                raise ValueError(f"the {len(members)} models {what} ({key}: {', '.join(values)})")
        return cls(
            model=nn.ModuleList([member.model for member in members]),
            image_size=members[0].image_size,
            threshold=float(np.mean([member.threshold for member in members])),
            flips=any(member.flips for member in members),
            largest_region=all(member.largest_region for member in members),
            info=_info(infos, sorted(weights)),
            members=tuple(members),
        )

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """uint8 RGB (N, S, S, 3) -> mean probability of lesion per pixel, float32 (N, S, S)."""
        total = np.zeros(images.shape[:3], np.float32)
        for member in self.members:
            total += member.probabilities(images)
        return total / np.float32(len(self.members))


def _info(infos: Sequence[Mapping[str, Any]], weights: Sequence[str]) -> dict[str, Any]:
    models = [info["model"] for info in infos]
    kinds = sorted({f"{model['name']} {model.get('size', '')}".strip() for model in models})
    return {
        **{key: infos[0][key] for key in SHARED if key in infos[0]},
        "model": {"name": f"{len(infos)} models:", "size": ", ".join(kinds)},
        "architectures": sorted({model["name"] for model in models}),
        "weights_sha256": hashlib.sha256("\n".join(weights).encode()).hexdigest(),
        "members": list(weights),
    }
