"""EfficientNet-Lite's convolutional trunk (Tan & Le, ICML 2019; Lite: no squeeze-and-excitation, ReLU6, a fixed stem).

The published weights were trained on (pixel - 127) / 128 with TensorFlow's "same" padding, which at stride 2 pads an
even side on its far edge alone: both are part of what the weights mean.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


BASE = (
    *(Stage(1, 3, 1, 1, 16), Stage(2, 3, 2, 6, 24), Stage(2, 5, 2, 6, 40), Stage(3, 3, 2, 6, 80)),
    *(Stage(3, 5, 1, 6, 112), Stage(4, 5, 2, 6, 192), Stage(1, 3, 1, 6, 320)),
)
SCALES = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite2": (1.1, 1.2)}  # of width and of depth
STEM = 32
TAKEN = (1, 2, 3, 5)  # after so many stages a feature is taken: at H/2, H/4, H/8, H/16
PARTS = {  # of a published block's names -> ours
    **{"_expand_conv": "expand", "_bn0": "expand_norm", "_depthwise_conv": "depthwise", "_bn1": "depthwise_norm"},
    **{"_project_conv": "project", "_bn2": "project_norm"},
}


def stages(kind: str) -> list[Stage]:
    """The stages of one size; the first and the last are as deep in all."""
    width, depth = SCALES[kind]
    last = len(BASE) - 1
    return [
        stage._replace(
            repeats=stage.repeats if index in (0, last) else math.ceil(depth * stage.repeats),
            channels=_multiple_of_8(width * stage.channels),
        )
        for index, stage in enumerate(BASE)
    ]


def _multiple_of_8(channels: float) -> int:
    """The nearest, unless that is more than a tenth smaller."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class SameConvolution(nn.Conv2d):
    """A convolution without bias and with TensorFlow's "same" padding, for even sides."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, groups=groups, bias=False)
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        self.edges = (before, after, before, after)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, self.edges))


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project; added to the input where the shape stays."""

    def __init__(self, in_channels: int, stage: Stage, stride: int) -> None:
        super().__init__()
        hidden = in_channels * stage.expansion
        self.expands, self.adds = stage.expansion > 1, stride == 1 and in_channels == stage.channels
        if self.expands:
            self.expand, self.expand_norm = nn.Conv2d(in_channels, hidden, 1, bias=False), _norm(hidden)
        self.depthwise = SameConvolution(hidden, hidden, stage.kernel, stride, groups=hidden)
        self.depthwise_norm = _norm(hidden)
        self.project, self.project_norm = nn.Conv2d(hidden, stage.channels, 1, bias=False), _norm(stage.channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu6(self.expand_norm(self.expand(x))) if self.expands else x
        hidden = functional.relu6(self.depthwise_norm(self.depthwise(hidden)))
        projected = self.project_norm(self.project(hidden))
        return x + projected if self.adds else projected


class EfficientNetLite(nn.Module):
    """images (B, 3, H, W) in [-1, 1] -> features at H/2, H/4, H/8 and H/16; H and W multiples of 16.

    kind: `efficientnet_lite0` or `efficientnet_lite2`. taken: after how many stages features are taken; what lies
    deeper than the last is left out. channels: of the features.
    """

    def __init__(self, kind: str, taken: Sequence[int] = TAKEN) -> None:
        super().__init__()
        self.kind = kind
        used = stages(kind)[: taken[-1]]
        self.channels = tuple(used[count - 1].channels for count in taken)
        self.stem, self.stem_norm = SameConvolution(3, STEM, 3, 2), _norm(STEM)
        self.blocks = nn.ModuleList()
        self.ends: set[int] = set()
        width = STEM
        for index, stage in enumerate(used):
            for repeat in range(stage.repeats):
                self.blocks.append(InvertedResidual(width, stage, stage.stride if repeat == 0 else 1))
                width = stage.channels
            if index + 1 in taken:
                self.ends.add(len(self.blocks) - 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = functional.relu6(self.stem_norm(self.stem(images * (127.5 / 128) + 0.5 / 128)))
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.ends:
                features.append(x)
        return features

    def load_published(self, weights: Mapping[str, Tensor]) -> None:
        """Takes the published weights, without those of the deeper part.

        Raises ValueError for any others: of other names or shapes, of blocks with parts that these do not have (the
        full EfficientNet's squeeze-and-excitation), and with values that are not finite.
        """
        ours, own = self.state_dict(), {name: published_name(name) for name in weights}
        found = {mine: weights[name] for name, mine in own.items() if mine is not None and mine in ours}
        wrong = [name for name in weights if own[name] is None]
        wrong += [name for name in ours if name not in found or found[name].shape != ours[name].shape]
        if wrong:
            raise ValueError(f"not the weights of {self.kind}: {wrong[0]} and {len(wrong) - 1} more do not fit")
        if broken := [name for name, mine in own.items() if mine in ours and not weights[name].isfinite().all()]:
            raise ValueError(f"{broken[0]} and {len(broken) - 1} more tensors hold values that are not finite")
        with torch.no_grad():
            for name, tensor in found.items():
                ours[name].copy_(tensor)


def published_name(name: str) -> str | None:
    """Ours for a published tensor's: `_blocks.3._bn1.bias` -> `blocks.3.depthwise_norm.bias`; None for a block's part
    that ours do not have."""
    head, _, rest = name.partition(".")
    if head != "_blocks":
        return {"_conv_stem": "stem", "_bn0": "stem_norm"}.get(head, head) + f".{rest}"
    index, _, rest = rest.partition(".")
    part, _, tensor = rest.partition(".")
    return f"blocks.{index}.{PARTS[part]}.{tensor}" if part in PARTS else None
