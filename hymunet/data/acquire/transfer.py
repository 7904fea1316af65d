"""One file from a remote, in parallel parts: resumed after a kill, retried after a fault, verified or not there.

Next to the growing file lies a journal: its first line names size and tag of what is fetched, each further line says
how far a part has come, after its bytes were written. A file that comes from a server without ranges is read in one go.
"""

import fcntl
import hashlib
import json
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from tqdm import tqdm

from hymunet.data.acquire.remote import Changed, Info, Missing, RangesUnusable, Refused, Remote

PART = 16 * 2**20  # bytes
CONNECTIONS = 4
RECORD = 2**20  # bytes of a part between two lines of the journal
ATTEMPTS = 6  # in a row without a new byte
RESTARTS = 3  # from nothing, when the file turns out to be another one
BACKOFF = (0.5, 20.0)  # seconds: the first wait, doubled each time, and the longest

T = TypeVar("T")


class WrongBytes(OSError):
    """The file came whole, and it is not the one expected."""


def fetch(source: Remote, name: str, target: Path, sha256: str | None, size: int | None = None) -> str:
    """Brings `name` to `target` and returns its SHA-256. What an earlier, killed call has fetched is not fetched again.

    Raises Missing, Refused, WrongBytes, another OSError once the retries are used up, ValueError when the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with alone(target):
        if target.exists():
            digest = file_sha256(target)
            if sha256 in (None, digest):
                return digest
            target.unlink()
        whole = False
        for restart in range(RESTARTS + 1):
            try:
                return _attempt(source, name, target, sha256, size, whole)
            except (Changed, RangesUnusable, WrongBytes) as error:
                # Once more from nothing: resumed parts may be of another version, ranges of a lying server.
                _discard(target)
                whole = whole or isinstance(error, (RangesUnusable, WrongBytes))
                if restart == RESTARTS or (isinstance(error, WrongBytes) and restart):
                    raise
        raise AssertionError("unreachable")


def _attempt(source: Remote, name: str, target: Path, sha256: str | None, size: int | None, whole: bool) -> str:
    info = patiently(lambda: source.info(name))
    if size is not None and info.size is not None and info.size != size:
        raise WrongBytes(f"{name} is {info.size:,} bytes, expected {size:,}")
    if info.size is None or not info.ranges or whole:
        digest = _read_whole(source, name, target, info)
    else:
        digest = _read_parts(source, name, target, info)
    if sha256 not in (None, digest):
        raise WrongBytes(f"{name}: sha256 {digest}, expected {sha256}")
    _partial(target).replace(target)
    _discard(target)
    return digest


def _read_whole(source: Remote, name: str, target: Path, info: Info) -> str:
    _check_space(target, info.size or 0)

    def read() -> str:
        digest, count = hashlib.sha256(), 0
        with _partial(target).open("wb") as file, _bar(name, info.size, 0) as bar:
            for chunk in source.read(name, 0, None, info.tag):
                file.write(chunk)
                digest.update(chunk)
                count += len(chunk)
                bar.update(len(chunk))
            if info.size is not None and count < info.size:
                raise ConnectionError(f"{name} ended after {count:,} of {info.size:,} bytes")
            if info.size is not None and count > info.size:
                raise WrongBytes(f"{name} has {count:,} bytes, announced were {info.size:,}")
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest()

    return patiently(read)


def _read_parts(source: Remote, name: str, target: Path, info: Info) -> str:
    assert info.size is not None
    done = _resume(target, info)
    starts = range(0, info.size, PART)
    _check_space(target, info.size - sum(done.values()))
    lock, stop = threading.Lock(), threading.Event()
    with (
        _partial(target).open("r+b") as file,
        _journal(target).open("a", encoding="utf-8") as journal,
        _bar(name, info.size, sum(done.values())) as bar,
    ):

        def part(start: int) -> None:
            end = min(start + PART, info.size or 0)
            while done.get(start, 0) < end - start and not stop.is_set():
                before = done.get(start, 0)
                for chunk in source.read(name, start + before, end, info.tag):
                    if stop.is_set():
                        return
                    position = done.get(start, 0)
                    if position + len(chunk) > end - start:
                        raise RangesUnusable(f"{name}: the server sent more than was asked for")
                    os.pwrite(file.fileno(), chunk, start + position)
                    position += len(chunk)
                    done[start] = position
                    with lock:
                        bar.update(len(chunk))
                        if position // RECORD != (position - len(chunk)) // RECORD or position == end - start:
                            journal.write(f"{start} {position}\n")
                            journal.flush()
                if done.get(start, 0) < end - start:
                    raise ConnectionError(f"{name}: a part ended after {done.get(start, 0):,} of {end - start:,} bytes")

        def resumed(start: int) -> None:
            patiently(lambda: part(start), lambda: done.get(start, 0))

        digest = hashlib.sha256()
        futures = _started(resumed, starts)
        try:
            for start, future in zip(starts, futures, strict=True):
                future.result()
                digest.update(os.pread(file.fileno(), PART, start))
        except BaseException as error:
            stop.set()
            for future in futures:
                future.cancel()
            if isinstance(error, Exception):  # Ctrl-C does not wait for a server that is silent
                wait(futures)
            raise
        os.fsync(file.fileno())
    return digest.hexdigest()


def _started(work: Callable[[int], None], jobs: Sequence[int]) -> list[Future]:
    """A future for each job, by CONNECTIONS threads, which a program that ends does not wait for as for a pool's."""
    futures: list[Future] = [Future() for _ in jobs]
    waiting: SimpleQueue[tuple[int, Future]] = SimpleQueue()
    for job in zip(jobs, futures, strict=True):
        waiting.put(job)

    def run() -> None:
        while True:
            try:
                job, future = waiting.get_nowait()
            except Empty:
                return
            if not future.set_running_or_notify_cancel():
                continue
            try:
                work(job)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)

    for _ in range(min(CONNECTIONS, len(futures))):
        threading.Thread(target=run, daemon=True).start()
    return futures


def _resume(target: Path, info: Info) -> dict[int, int]:
    """Bytes had of each part, by its start; an empty file and journal where none is begun or another was."""
    head = json.dumps({"size": info.size, "tag": info.tag, "part": PART})
    try:
        lines = _journal(target).read_text(encoding="utf-8").splitlines(keepends=True)
        if lines and lines[0] == f"{head}\n" and _partial(target).stat().st_size == info.size and info.tag:
            whole = [line.split() for line in lines[1:] if line.endswith("\n")]
            return {int(start): int(count) for start, count in whole}
    except (OSError, ValueError):
        pass
    _discard(target)
    _check_space(target, info.size or 0)
    with _partial(target).open("wb") as file:
        file.truncate(info.size or 0)
    _journal(target).write_text(f"{head}\n", encoding="utf-8")
    return {}


def patiently(action: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
    """Calls until it succeeds, waiting longer each time; gives up after ATTEMPTS in a row without progress."""
    failures = 0
    while True:
        before = progress()
        try:
            return action()
        except (Missing, Refused, Changed, RangesUnusable, WrongBytes):
            raise
        except OSError as error:
            if error.errno is not None and not isinstance(error, ConnectionError):
                raise  # the disk, not the network
            failures = 1 if progress() > before else failures + 1
            if failures >= ATTEMPTS:
                raise OSError(f"{error} ({failures} attempts without a new byte)") from None
            longest = min(BACKOFF[1], BACKOFF[0] * 2 ** (failures - 1))
            time.sleep(random.uniform(0.5, 1) * longest)


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """One process at a time works on a file or folder; another waits, and then finds it there."""
    with target.with_name(f".{target.name}.lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tqdm.write(f"download: another process is fetching {target.name}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_space(target: Path, size: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if size > free:
        raise ValueError(
            f"{target}: No space left on device: {size:,} bytes to come, {free:,} free; free some or use another folder"
        )


def _bar(name: str, total: int | None, initial: int) -> tqdm:
    return tqdm(total=total, initial=initial, unit="B", unit_scale=True, desc=name, disable=None)


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _journal(target: Path) -> Path:
    return target.with_name(f".{target.name}.journal")


def _discard(target: Path) -> None:
    _partial(target).unlink(missing_ok=True)
    _journal(target).unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
