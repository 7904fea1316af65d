"""The model that answers now. A registry's alias is followed: when it moves, the new version is loaded and tried out
beside the old one, then takes its place in one step. Whoever holds the old one finishes with it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hymunet.addresses import without_secrets
from hymunet.inference import Segmenter
from hymunet.registry.client import registry
from hymunet.registry.load import ADDRESS, open_segmenter, resolve

log = logging.getLogger("hymunet.serving")
PATIENCE = 2.0  # seconds for a look that is under way, when a server ends


@dataclass(frozen=True)
class Loaded:
    """A whole model. source: the folder or models:/NAME/VERSION; decides: by whose authority, in words."""

    segmenter: Segmenter
    source: str
    decides: str

    @property
    def weights(self) -> str:
        """The SHA-256 of its weights."""
        return self.segmenter.info["weights_sha256"]


def load(where: str) -> Loaded:
    """Opens and tries a model; an alias becomes the version that it names now, so that both parts are of one version.

    Raises ValueError when something is missing or damaged, or a mask cannot be made.
    """
    source = current(where)
    segmenter, decides = open_segmenter(source)
    segmenter.masks([np.zeros((segmenter.image_size,) * 2 + (3,), np.uint8)])
    return Loaded(segmenter, source, decides)


def current(where: str) -> str:
    """models:/NAME@ALIAS -> models:/NAME/VERSION as of now; anything else as it is."""
    found = ADDRESS.fullmatch(where)
    if not found or not found["alias"]:
        return where
    with registry(make=False) as client:
        version = resolve(client, found)
        return f"models:/{version.name}/{version.version}"


class Follower:
    """`loaded` is the model to use. Asks the registry every `seconds`, in a thread, where an alias is followed.

    A version that cannot be had or read changes nothing: it is logged, counted, and tried again.
    told: called after each switch with True, after each failure with False.
    """

    def __init__(self, where: str, seconds: float, told: Callable[[bool], object] = lambda switched: None) -> None:
        self.where, self.loaded = where, load(where)
        self._seconds, self._told, self._said = seconds, told, ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)
        if "@" in where and where.startswith("models:"):
            self._thread.start()

    def stop(self) -> None:
        """Waits for a look that is under way, but not for a registry that does not answer."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def look(self) -> None:
        """Once, now."""
        try:
            if (source := current(self.where)) != self.loaded.source:
                loaded = load(source)
                log.warning("%s is now %s, before %s", self.where, source, self.loaded.source)
                self.loaded, self._said = loaded, ""
                self._told(True)
        except Exception as error:  # of any kind: the version that works goes on
            self._told(False)
            reason = without_secrets(f"{type(error).__name__}: {error}")
            if reason != self._said:
                log.error("%s is still %s: %s", self.where, self.loaded.source, reason)
                self._said = reason

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self.look()
