"""A copy of the journal beside the checkpoints, so that a machine's end does not take what was not delivered along."""

import logging
from pathlib import Path

from hymunet import atomic
from hymunet.training.checkpoint_store import Storage, keys, open_storage

log = logging.getLogger("hymunet.training")
JOURNAL, DELIVERED = "journal.jsonl", "delivered.json"


class Keeper:
    """Keeps `<folder>/journal.jsonl` in the storage of the run's checkpoints."""

    def __init__(self, folder: Path, storage: Storage) -> None:
        self.path, self.storage = folder / JOURNAL, storage
        self.kept = -1

    def restore(self) -> None:
        """Brings the copy here where it tells more: to a new machine, or to one that the run left and comes back to.

        What is noted of the delivery belongs to another file then: the server is asked what it has.
        """
        if JOURNAL not in self.storage.names():
            return
        content = self.storage.read(JOURNAL)
        if len(content) > (self.path.stat().st_size if self.path.exists() else 0):
            (self.path.parent / DELIVERED).unlink(missing_ok=True)
            atomic.write(self.path, content)

    def keep(self) -> None:
        """Writes the copy where there is something new. A store that does not take it costs the training nothing."""
        try:
            content = self.path.read_bytes()
            if len(content) == self.kept:
                return
            self.storage.write(JOURNAL, content)
            self.kept = len(content)
        except OSError as error:
            log.warning("the journal's copy beside the checkpoints is not up to date: %s", error)


def restore_all(location: str, journals: Path) -> list[str]:
    """Brings every run's journal from the checkpoints at `location` (a folder or s3://…) to `journals`; their keys."""
    found = keys(location)
    for key in found:
        Keeper(journals / key, open_storage(location, key)).restore()
    return found
