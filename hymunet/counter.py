"""Random numbers as hashes of a key and a place: the same in any part of a batch, on any device, compiled or not."""

import torch
from torch import Tensor

TOP_BITS = 24  # of a hash, which float32 holds exactly


def uniforms(keys: Tensor) -> Tensor:
    """int64 of well-mixed bits, any shape -> float32 in [0, 1)."""
    return (shifted(keys, 64 - TOP_BITS) * 2.0**-TOP_BITS).float()


def spread(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """int64 (B,) -> well-mixed bits, another for every place: int64 (B, *shape)."""
    places = torch.arange(1, 1 + torch.Size(shape).numel(), device=keys.device).view(1, *shape)
    return finished(keys.view(-1, *[1] * len(shape)) ^ finished(places))


def finished(key: Tensor) -> Tensor:
    """What splitmix64 makes of a state, on int64 as if unsigned."""
    key = (key ^ shifted(key, 30)) * _signed(0xBF58476D1CE4E5B9)
    key = (key ^ shifted(key, 27)) * _signed(0x94D049BB133111EB)
    return key ^ shifted(key, 31)


def shifted(key: Tensor, bits: int) -> Tensor:
    return (key >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
