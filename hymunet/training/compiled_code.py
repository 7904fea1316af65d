"""Compiled code in an object store, for machines whose disk does not last: brought before a step compiles, kept after.

What inductor and Triton keep is code and pickles. An archive is therefore taken only where it was signed with this
machine's own key (HMAC-SHA256, RFC 2104): nobody else's code runs, whoever may write to the bucket. A store that is
away costs a compilation and no training.
"""

import hashlib
import hmac
import io
import json
import logging
import os
import platform
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hymunet.training import device as devices
from hymunet.training.checkpoint_store import Storage, open_storage
from hymunet.training.learner import Learner

KEY = f"{devices.COMPILED_CODE}_KEY"
LEAST_KEY = 32  # characters: 128 bits in hexadecimal digits
SIGNATURE = hashlib.sha256().digest_size
FOLDERS = {"inductor": "TORCHINDUCTOR_CACHE_DIR", "triton": "TRITON_CACHE_DIR"}
# Settings that the compiled arithmetic takes as numbers, or not at all.
VALUES = {
    "seed",
    "epochs",
    "learning_rate",
    "min_learning_rate",
    "weight_decay",
    "warmup_epochs",
    "clip_norm",
    "ema_decay",
}

log = logging.getLogger("hymunet.training")


class CompiledCode:
    """One archive of a store and the folders that it fills. `place` names it in messages."""

    def __init__(self, storage: Storage, name: str, place: str, key: bytes, say: Callable[[str], None]) -> None:
        self.storage, self.name, self.place, self.key, self.say = storage, name, place, key, say
        self.folders = {name: Path(os.environ[variable]) for name, variable in FOLDERS.items()}
        self.before = self._files()
        self.brought: set[str] = set()

    def bring(self) -> None:
        """Unpacks the archive, where there is one of this key."""
        try:
            content = self.storage.read(self.name)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("%s: compiled code cannot be read, it is made anew (%s)", self.place, error)
            return
        signature, archive = content[:SIGNATURE], content[SIGNATURE:]
        if not hmac.compare_digest(signature, self._signed(archive)):
            log.warning(
                "%s: damaged, or not signed with this %s; the code is made anew and replaces it", self.place, KEY
            )
            return
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as packed:
            for member in packed:
                folder, _, rest = member.name.partition("/")
                target = self.folders[folder] / rest
                if member.isfile() and not target.exists():
                    _write(target, packed.extractfile(member).read(), member.mode)  # type: ignore[union-attr]
                self.brought.add(member.name)
        self.say(f"compiled code of an earlier start brought from {self.place} ({len(archive) / 1e6:.1f} MB)")

    def keep(self) -> None:
        """Puts what this start made, with what it brought, into the store; nothing where it made nothing."""
        made = self._files() - self.before
        if not made - self.brought:
            return
        try:
            archive = self._packed(sorted(made | self.brought))
            self.storage.write(self.name, self._signed(archive) + archive)
        except OSError as error:
            log.warning("%s: compiled code cannot be kept, the next start makes it anew (%s)", self.place, error)
            return
        self.say(f"compiled code kept in {self.place} for the next start ({len(archive) / 1e6:.1f} MB)")

    def _files(self) -> set[str]:
        return {
            f"{name}/{path.relative_to(folder)}"
            for name, folder in self.folders.items()
            for path in folder.rglob("*")
            if path.is_file() and not path.name.endswith((".lock", ".tmp")) and not path.is_symlink()
        }

    def _packed(self, names: list[str]) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
            for name in names:
                folder, _, rest = name.partition("/")
                archive.add(self.folders[folder] / rest, arcname=name, recursive=False)
        return packed.getvalue()

    def _signed(self, archive: bytes) -> bytes:
        return hmac.digest(self.key, self.name.encode() + b"\n" + archive, "sha256")


def shared(learner: Learner, identity: dict[str, Any], say: Callable[[str], None]) -> CompiledCode | None:
    """None where HYMUNET_COMPILE_CACHE names no store, or nothing is compiled.

    Raises ValueError for a store without a key, or that must not be written to.
    """
    place = os.environ.get(devices.COMPILED_CODE, "")
    compiles = learner.device.type == "cuda" or learner.train_params.compile == "required"
    if not place.startswith("s3://") or not compiles:
        return None
    key = os.environ.get(KEY, "")
    if len(key) < LEAST_KEY:
        found = f"has {len(key)} characters" if key else "is not set"
        raise ValueError(
            f"{devices.COMPILED_CODE} {place}: what lies there runs as code and is signed with {KEY}, which {found}; "
            f"set it from a secret to at least {LEAST_KEY} characters: openssl rand -hex 32"
        )
    if missing := [variable for variable in FOLDERS.values() if variable not in os.environ]:
        raise ValueError(
            f"{devices.COMPILED_CODE} {place}: no folder here to unpack it in; "
            f"set XDG_CACHE_HOME, or {', '.join(missing)}"
        )
    name = f"{_fingerprint(learner, identity)}.tar.gz"
    try:
        storage = open_storage(place, "", "compiled code")
    except OSError as error:
        log.warning("%s; compiled code is made anew", error)
        return None
    return CompiledCode(storage, name, f"{place.rstrip('/')}/{name}", key.encode(), say)


def _fingerprint(learner: Learner, identity: dict[str, Any]) -> str:
    """Of what decides the compiled code, and how the machine is called that it is for."""
    made_of = {
        **{name: identity[name] for name in ("model", "facts", "code_sha256")},
        "train": {name: value for name, value in identity["train"].items() if name not in VALUES},
        "image_size": learner.data.image_size,
        "machine": devices.describe(learner.device),
        "python": platform.python_version(),
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _write(target: Path, content: bytes, mode: int) -> None:
    """Whole or not at all: another process of this machine may read it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    partial.write_bytes(content)
    partial.chmod(mode & 0o755)
    os.replace(partial, target)
