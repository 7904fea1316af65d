"""Checkpoints that are whole or do not count: tensors first, then a manifest that vouches for them.

A checkpoint is `<step>.safetensors` and `<step>.json`. The manifest is written last and holds the size and hash of the
tensors, its own hash, the run's configuration, and the part of the state that is not tensors. The newest checkpoint is
the one with the highest step whose manifest holds true; times of files mean nothing.
"""

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from hymunet.training.checkpoint_store import Storage
from hymunet.training.identity import differences, run_key

log = logging.getLogger("hymunet.training")

FORMAT = 1
KEPT = 2


@dataclass
class Checkpoint:
    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of the run that `configuration` determines."""

    def __init__(self, storage: Storage, configuration: dict[str, Any]) -> None:
        self.storage, self.configuration = storage, configuration
        self.damaged: set[str] = set()  # found so by `newest`

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes it, then deletes older ones but the newest that is whole.

        Raises OSError, older checkpoints intact, when it cannot be written.
        """
        name = f"{checkpoint.step:09d}"
        content = save({key: tensor.detach().cpu().contiguous() for key, tensor in checkpoint.tensors.items()})
        self.storage.write(f"{name}.safetensors", content)
        manifest = {
            "format": FORMAT,
            "step": checkpoint.step,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "configuration": self.configuration,
            "state": checkpoint.state,
        }
        self.storage.write(f"{name}.json", _seal(manifest))
        self.damaged.discard(name)
        try:
            self._prune(name)
        except OSError as error:
            log.warning("checkpoints older than step %d stay for now: %s", checkpoint.step, error)

    def newest(self) -> Checkpoint | None:
        """The newest one that is whole, or None. Says which it passed over, and why.

        Passed over is what is not there or not what was written. Any other failure to read is no damage and raises
        OSError: whoever went on without the checkpoint would throw the training away.
        Raises ValueError when a whole one belongs to another configuration: it names the file and what differs.
        """
        self.storage.sweep()
        manifests = [name for name in self.storage.names() if name.endswith(".json")]
        for name in sorted(manifests, reverse=True):
            try:
                return self._read(name)
            except (FileNotFoundError, _Damaged) as error:
                log.warning("checkpoint %s passed over: %s", name, error)
                self.damaged.add(name.removesuffix(".json"))
        if manifests:
            log.warning("no readable checkpoint: the training starts from the beginning and will end the same")
        return None

    def _read(self, name: str) -> Checkpoint:
        manifest = _unseal(self.storage.read(name))
        if manifest["format"] != FORMAT:
            raise ValueError(
                f"checkpoint {name} has format {manifest['format']}, this version reads {FORMAT}; go on with the "
                "version that wrote it, or move it away to begin anew"
            )
        if manifest["configuration"] != self.configuration:
            raise ValueError(
                f"checkpoint {name} belongs to run {run_key(manifest['configuration'])}, "
                f"this is run {run_key(self.configuration)}: "
                + "; ".join(differences(self.configuration, manifest["configuration"]))
                + "; keep each run's checkpoints in a folder of their own"
            )
        content = self.storage.read(name.replace(".json", ".safetensors"))
        if len(content) != manifest["bytes"]:
            raise _Damaged(f"its tensors have {len(content)} bytes, {manifest['bytes']} were written")
        if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
            raise _Damaged("its tensors have changed since they were written")
        try:
            return Checkpoint(manifest["step"], load(content), manifest["state"])
        except SafetensorError as error:
            raise _Damaged(f"its tensors are not safetensors: {error}") from None

    def _prune(self, saved: str) -> None:
        """The manifest goes first, so that none is ever left without its tensors.

        A later one than `saved` stays: where it is damaged, the training will come by its step and write it anew; where
        it is whole, another process has written it.
        """
        names = set(self.storage.names())
        steps = sorted({name.partition(".")[0] for name in names if name.partition(".")[0].isdigit()})
        older = [step for step in steps if step < saved]
        whole = [step for step in older if f"{step}.json" in names and step not in self.damaged]
        for step in older:
            if step not in whole[-(KEPT - 1) :]:
                self.storage.delete(f"{step}.json")
                self.storage.delete(f"{step}.safetensors")


def newest_manifest(folder: Path) -> dict[str, Any] | None:
    """Of one run's folder, without its tensors; None where none is as it was written. Nothing is changed or said."""
    for path in sorted(folder.glob("*.json"), reverse=True):
        with suppress(OSError, _Damaged):
            return _unseal(path.read_bytes())
    return None


class _Damaged(Exception):
    pass


def _seal(manifest: dict[str, Any]) -> bytes:
    text = json.dumps(manifest)  # in the order given: history.json is written from it
    return json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "manifest": text}).encode()


def _unseal(content: bytes) -> dict[str, Any]:
    try:
        outer = json.loads(content)
        text = outer["manifest"]
        if hashlib.sha256(text.encode()).hexdigest() != outer["sha256"]:
            raise _Damaged("its manifest has changed since it was written")
        manifest = json.loads(text)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _Damaged("its manifest is not readable") from None
    return manifest
