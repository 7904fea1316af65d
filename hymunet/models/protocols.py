"""What a layer says of itself, by a base class, to those who train, export and describe models without knowing them."""

from collections.abc import Iterator

from torch import nn


class DrawsPerSample:
    """Draws random numbers for each sample of a batch in training.

    share (index, count): the layer sees the index-th of `count` equal parts of a batch. With the same generator state
    in all parts, it draws for every sample what it would have drawn in the whole batch.
    """

    share: tuple[int, int] = (0, 1)


class Scans:
    """Runs the selective scan. backend: whose kernel (hymunet.ops). states: per channel."""

    backend: str
    states: int


class SparesDecay:
    """undecayed: names of its own parameters that weight decay must leave alone although they are no vectors."""

    undecayed: tuple[str, ...]


def draws(model: nn.Module) -> Iterator[DrawsPerSample]:
    return (module for module in model.modules() if isinstance(module, DrawsPerSample))


def scans(model: nn.Module) -> Iterator[Scans]:
    return (module for module in model.modules() if isinstance(module, Scans))


def undecayed(model: nn.Module) -> set[nn.Parameter]:
    """Parameters without weight decay: vectors (norms, biases), and those that a layer names."""
    spared = {parameter for parameter in model.parameters() if parameter.ndim < 2}
    for module in model.modules():
        if isinstance(module, SparesDecay):
            spared |= {module.get_parameter(name) for name in module.undecayed}
    return spared
