"""Delivers training journals to MLflow: beside a running training, or later by hand."""

import argparse
import fcntl
import logging
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hymunet.mlflow_store.address import public_tracking_uri
from hymunet.mlflow_store.environment import adopt
from hymunet.mlflow_store.errors import for_good, in_words
from hymunet.places import require_folder
from hymunet.training.tracking.delivery import Delivery
from hymunet.training.tracking.keeper import JOURNAL, restore_all
from hymunet.training.tracking.sampler import Sampler

log = logging.getLogger("hymunet.tracking")

JOURNALS = Path("journal")
POLL = 2.0  # seconds between looks at the journal
BACKOFF = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds after the first, second, … failure in a row
GIVE_UP = 20.0  # seconds without success after which a delivery by hand, or the end of a training, leaves the rest


def prepare_mlflow() -> None:
    """Short timeouts: this program retries by itself, and a client that stalls for minutes would hide the end."""
    adopt(retries=0, seconds=10)
    logging.getLogger("alembic").setLevel(logging.WARNING)


@contextmanager
def alone(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Holds this journal for this process. Where another one delivers it, waits for its end, or gives False at once."""
    with (folder / "delivery.lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def drain(
    delivery: Delivery, give_up: float = GIVE_UP, last_success: float | None = None, again: bool = False
) -> str | None:
    """Delivers all there is. After `give_up` seconds without success, or a second refusal: the reason, in one line.

    last_success (time.monotonic): of a delivery that has gone on before; a server long dead gets one more attempt.
    again: looks whether what was delivered is still there.
    """
    failures, last_success = 0, last_success or time.monotonic()
    while True:
        try:
            if again:
                delivery.connect()
            if not delivery.step():
                return None
            failures, last_success = 0, time.monotonic()
        except Exception as error:  # whatever the client raises, the journal keeps the points
            if time.monotonic() - last_success > give_up or (failures and for_good(error)):
                return in_words(error)
            time.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])
            failures += 1


def follow(folder: Path) -> int:
    """Delivers a journal while it grows, until standard input closes, which it does when the training has ended."""
    os.nice(10)
    prepare_mlflow()
    with alone(folder):
        delivery, sampler = Delivery(folder, _say), Sampler(folder)
        failures, next_attempt, last_success = 0, 0.0, time.monotonic()
        while not _training_has_ended(POLL):
            sampler.sample()
            if time.monotonic() < next_attempt:
                continue
            try:
                while delivery.step():
                    failures = 0
                last_success = time.monotonic()
            except Exception as error:
                log.debug("delivery failed: %s", in_words(error))
                next_attempt = time.monotonic() + BACKOFF[min(failures, len(BACKOFF) - 1)]
                if failures == 2:
                    _say(f"{public_tracking_uri()} does not take metrics ({in_words(error)}); they wait in {folder}")
                failures += 1
        if reason := drain(delivery, last_success=last_success):
            left = f"{delivery.waiting()} records wait in {folder}"
            _say(f"{left} ({public_tracking_uri()}: {reason}); deliver them later with: hymunet deliver")
        return 0


def _say(line: str) -> None:
    print(f"tracking: {line}", file=sys.stderr, flush=True)


def _training_has_ended(wait: float) -> bool:
    return bool(select.select([sys.stdin], [], [], wait)[0])


def deliver_all(named: Path | None, checkpoints: str | None = None) -> int:
    """Delivers every journal under a folder, JOURNALS where none is named, and those kept beside `checkpoints`, which
    may make it; returns the exit code. What another process delivers is left to it. Raises ValueError for a file, and
    for a folder that was named and is not there.
    """
    root = named or JOURNALS
    require_folder(root)
    if named and not checkpoints and not root.is_dir():
        raise ValueError(f"{root}: no such folder; name the one in which trainings wrote their journals ({JOURNALS})")
    prepare_mlflow()
    if checkpoints:
        restore_all(checkpoints, root)
    folders = sorted(path.parent for path in root.glob(f"*/{JOURNAL}"))
    if not folders:
        print(f"nothing to deliver: {root} holds no journal of a training")
    failed = 0
    for folder in folders:
        with alone(folder, wait=False) as free:
            if not free:
                print(f"{folder.name}: another process delivers it, as a training does while it runs; left to that one")
                continue
            delivery = Delivery(folder, lambda line, name=folder.name: print(f"{name}: {line}"))  # type: ignore[misc]
            reason = drain(delivery, GIVE_UP, again=True)
            left = delivery.waiting()
        print(f"{folder.name}: {delivery.sent} of {delivery.sent + left} records delivered to {public_tracking_uri()}")
        if reason:
            print(f"deliver: {folder.name}: {left} records wait ({public_tracking_uri()}: {reason})", file=sys.stderr)
            failed = 1
    return failed


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hymunet.training.tracking.worker", description=__doc__)
    parser.add_argument("--follow", type=Path, metavar="FOLDER", help="one journal, while its training runs")
    parser.add_argument("--journals", type=Path, help=f"the folder of all journals ({JOURNALS})")
    arguments = parser.parse_args(argv)
    return follow(arguments.follow) if arguments.follow else deliver_all(arguments.journals)


if __name__ == "__main__":
    sys.exit(main())
