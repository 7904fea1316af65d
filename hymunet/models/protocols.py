"""What a layer says of itself, by a base class, to those who train, export and describe models without knowing them."""

from collections.abc import Iterator

from torch import Tensor, nn


class DrawsPerSample:
    """Draws random numbers for each sample of a batch in training.

    keys: int64 (B,) of well-mixed bits, put there by whoever trains, so that a sample is drawn alike in any part of a
    batch, on any device, compiled or not; while there are none, torch's generator makes some.
    """

    keys: Tensor | None = None


class Scans:
    """Runs the selective scan. backend: whose kernel (hymunet.ops). states: per channel."""

    backend: str
    states: int


class SparesDecay:
    """undecayed: names of its own parameters that weight decay must leave alone although they are no vectors."""

    undecayed: tuple[str, ...]


class Supervised:
    """A model whose training output may be a list of logits, each half as large as the one before: so many `levels`.

    In evaluation mode its output is the first alone.
    """

    levels: int


def levels(model: nn.Module) -> int:
    return model.levels if isinstance(model, Supervised) else 1


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
