"""The models, by the name that params.yaml gives. A model is found by its name, so that no other one is imported.

Models of other packages are declared as entry points: group `hymunet.models`, the model's name, the place of its Spec.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hymunet.models import specs
from hymunet.models.spec import ModelSection, Spec
from hymunet.section import explain

if TYPE_CHECKING:
    from torch import nn

GROUP = "hymunet.models"


def names() -> list[str]:
    """Every model that can be named, this package's own and those of others."""
    return sorted({*_own(), *_foreign()})


def find(name: str) -> Spec:
    """Raises ValueError for an unknown name, with the names there are."""
    if not isinstance(name, str):
        raise ValueError(f"model.name = {name!r}: expected one of {', '.join(names())}")
    return _find(name)


@cache
def _find(name: str) -> Spec:
    if name in _own():
        return importlib.import_module(module(name)).SPEC
    if name in (foreign := _foreign()):
        spec = foreign[name].load()
        if not isinstance(spec, Spec):
            raise ValueError(f"model {name}: {foreign[name].value} is no Spec but {type(spec).__name__}")
        return spec
    close = difflib.get_close_matches(name, names(), 1)
    own = "of another package's, that package must be installed here (docs/adding_a_model.md)"
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names())}; {own}"
    raise ValueError(f"model.name = {name!r}: no such model; {hint}")


def module(name: str) -> str:
    """The module that declares a model: what its import closure starts from."""
    return f"{specs.__name__}.{name}" if name in _own() else _foreign()[name].module


def section(content: dict[str, Any]) -> ModelSection:
    """The section `model` of a params file -> that model's own; raises ValueError, in one line, for what it refuses."""
    try:
        return find(content["name"]).section.model_validate(content)
    except ValidationError as error:
        raise ValueError("; ".join(f"model.{explain(problem)}" for problem in error.errors())) from None


def build(section: ModelSection, image_size: int) -> nn.Module:
    """A model with fresh weights from torch's global generator: float32 images (B, 3, H, W) -> logits (B, 1, H, W).

    Raises ValueError for an image size that it cannot take.
    """
    spec = find(section.name)
    spec.check(section, image_size)
    return spec.build(section, image_size)


def start(section: ModelSection, model: nn.Module) -> None:
    """Gives a freshly built model the published weights that its section names, if any; ValueError where it cannot."""
    spec = find(section.name)
    if spec.start is not None:
        spec.start(section, model)


@cache
def _own() -> frozenset[str]:
    return frozenset(found.name for found in pkgutil.iter_modules(specs.__path__))


def _foreign() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
