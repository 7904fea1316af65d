"""Downloads from a server that misbehaves: the right bytes or a clear error, and nothing fetched twice without need."""

import hashlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from hymunet.data.acquire import remote as remotes
from hymunet.data.acquire import transfer
from hymunet.data.acquire.remote import Missing, remote
from hymunet.data.acquire.transfer import WrongBytes, fetch
from tests.integration.data.hostile_server import HostileServer

PART = 64 * 1024
CONTENT = random.Random(0).randbytes(10 * PART + 12_345)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "archive.zip"


@pytest.fixture(autouse=True)
def _small_and_quick(monkeypatch):
    monkeypatch.setattr(transfer, "PART", PART)
    monkeypatch.setattr(transfer, "RECORD", 4096)
    monkeypatch.setattr(transfer, "BACKOFF", (0.005, 0.02))
    monkeypatch.setattr(remotes, "CHUNK", 4096)
    monkeypatch.setattr(remotes, "TIMEOUT", (2.0, 0.4))


@pytest.fixture
def server():
    server = HostileServer(CONTENT)
    yield server
    server.close()


def once(fault, at=3):
    """The fault at one request, all others well."""
    return lambda number, start, stop: fault if number == at else None


def whole(target, content=CONTENT):
    assert target.read_bytes() == content
    assert sorted(path.name for path in target.parent.iterdir()) == [f".{NAME}.lock", NAME]


def test_a_file_comes_in_parallel_parts(server, tmp_path):
    assert fetch(remote(server.url), NAME, tmp_path / NAME, DIGEST) == DIGEST
    whole(tmp_path / NAME)
    assert server.requests == 1 + 11  # a look, and one for each part
    assert server.sent == 1 + len(CONTENT)


def test_a_whole_file_is_not_fetched_again(server, tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT)
    fetch(remote(server.url), NAME, tmp_path / NAME, DIGEST)
    assert server.requests == 0


@pytest.mark.parametrize("count", [20, pytest.param(250, marks=pytest.mark.slow)])
def test_cuts_at_random_bytes_cost_no_more_than_what_was_on_the_way(server, tmp_path, count):
    rng = random.Random(count)
    cuts = [0]

    def fault(number, start, stop):
        if number == 1 or rng.random() < 0.5 or cuts[0] >= count:
            return None
        cuts[0] += 1
        return ("cut", rng.randrange(max(1, stop - start)))

    server.faults = fault
    runs = 0
    while cuts[0] < count:
        target = tmp_path / str(runs) / NAME
        before = server.sent
        fetch(remote(server.url), NAME, target, DIGEST)
        whole(target)
        assert server.sent - before <= len(CONTENT) + PART
        runs += 1


def test_cuts_without_progress_end_with_the_reason(server, tmp_path):
    server.faults = lambda number, start, stop: None if number == 1 else ("cut", 0)
    with pytest.raises(OSError, match=r"attempts without a new byte"):
        fetch(remote(server.url), NAME, tmp_path / NAME, DIGEST)
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("at", [1, 2, 5])
@pytest.mark.parametrize(
    "fault",
    [500, ("stall", 1.0), "ignore range", "lie range", "wrong length", "wrong bytes", ("change", CONTENT)],
    ids=str,
)
def test_one_fault_is_overcome(server, tmp_path, fault, at):
    server.faults = once(fault, at)
    assert fetch(remote(server.url), NAME, tmp_path / NAME, DIGEST) == DIGEST
    whole(tmp_path / NAME)


@pytest.mark.parametrize("fault", ["ignore range", "lie range"])
def test_a_server_without_honest_ranges_is_read_in_one_go(server, tmp_path, fault):
    server.faults = lambda number, start, stop: fault
    assert fetch(remote(server.url), NAME, tmp_path / NAME, DIGEST) == DIGEST
    whole(tmp_path / NAME)


@pytest.mark.parametrize(
    ("fault", "kind"), [(500, OSError), (("stall", 1.0), OSError), ("wrong bytes", WrongBytes)], ids=str
)
def test_a_lasting_fault_is_an_error_and_leaves_no_file(server, tmp_path, fault, kind, monkeypatch):
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)
    server.faults = lambda number, start, stop: fault if number > 1 or fault == 500 else None
    with pytest.raises(kind):
        fetch(remote(server.url), NAME, tmp_path / NAME, DIGEST)
    assert not (tmp_path / NAME).exists()


def test_a_file_that_changes_on_the_way_is_begun_again(server, tmp_path):
    other = random.Random(1).randbytes(len(CONTENT) - 999)
    server.faults = once(("change", other), at=6)
    digest = fetch(remote(server.url), NAME, tmp_path / NAME, None)
    assert digest == hashlib.sha256(other).hexdigest()
    whole(tmp_path / NAME, other)


def test_without_a_tag_nothing_is_resumed_but_the_bytes_are_right(server, tmp_path):
    server.tag = False
    server.faults = once(("cut", 10), at=4)
    assert fetch(remote(server.url), NAME, tmp_path / NAME, DIGEST) == DIGEST
    whole(tmp_path / NAME)


def test_a_size_other_than_published_is_refused_before_the_download(server, tmp_path):
    with pytest.raises(WrongBytes, match=r"667,705 bytes, expected 5"):
        fetch(remote(server.url), NAME, tmp_path / NAME, None, size=5)
    assert server.sent <= 4


def test_a_missing_file_is_named_at_once(server, tmp_path):
    with pytest.raises(Missing, match=r"other\.zip: HTTP 404"):
        fetch(remote(server.url), "other.zip", tmp_path / "other.zip", None)


SLOW_SERVER = 0.004  # seconds before each answer, so that a kill lands in the middle


@pytest.mark.parametrize("count", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_a_killed_download_goes_on_where_it_was(server, tmp_path, count):
    server.faults = lambda number, start, stop: time.sleep(SLOW_SERVER)
    rng, target, kills, files, before = random.Random(count), tmp_path / NAME, 0, 1, 0
    program = (
        "import sys; from pathlib import Path; from hymunet.data.acquire import remote, transfer as fetch;"
        f"fetch.PART = {PART}; fetch.RECORD = 4096; remote.CHUNK = 4096; fetch.CONNECTIONS = 2;"
        f"fetch.fetch(remote.remote({server.url!r}), {NAME!r}, Path({str(target)!r}), {DIGEST!r})"
    )
    while kills < count:
        process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
        while process.poll() is None and server.sent - before < rng.randrange(PART, 4 * PART):
            time.sleep(0.001)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        assert process.wait() in (0, -signal.SIGKILL)
        before = server.sent
        if target.exists():
            whole(target)
            target.unlink()
            files += 1
    assert fetch(remote(server.url), NAME, target, DIGEST) == DIGEST
    whole(target)
    looks = 1 + kills + files
    assert (
        server.sent <= files * len(CONTENT) + kills * 2 * PART + looks
    )  # two connections, each with a part on its way


@pytest.mark.parametrize("fault", [("stall", 60), 500], ids=["silent", "failing"])
def test_ctrl_c_does_not_wait_for_a_server(server, tmp_path, fault):
    server.faults = lambda number, start, stop: None if number < 3 else fault
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from pathlib import Path; from hymunet.data.acquire import remote, transfer as fetch;"
        f"fetch.PART = {PART}; fetch.RECORD = 4096; remote.CHUNK = 4096;"
        f"fetch.fetch(remote.remote({server.url!r}), {NAME!r}, Path({str(tmp_path / NAME)!r}), {DIGEST!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while process.poll() is None and server.requests < 6 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert time.monotonic() - began < 3
    server.faults = lambda number, start, stop: None
    sent = server.sent
    assert fetch(remote(server.url), NAME, tmp_path / NAME, DIGEST) == DIGEST
    assert server.sent - sent <= len(CONTENT) - PART + 1, "goes on from the first part"


def _fetch_elsewhere(url, target):
    fetch(remote(url), NAME, target, DIGEST)


def test_two_processes_fetch_one_file_once(server, tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fetch_elsewhere, args=(server.url, tmp_path / NAME)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    whole(tmp_path / NAME)
    assert server.sent <= len(CONTENT) + 2


@pytest.mark.skipif(os.geteuid() != 0, reason="a full disk is a small tmpfs, which needs root to mount")
def test_a_full_disk_is_said_before_the_first_byte(server, tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]).returncode:
        pytest.skip("tmpfs cannot be mounted here, so no disk can be made full")
    try:
        with pytest.raises(ValueError, match="No space left on device"):
            fetch(remote(server.url), NAME, tmp_path / NAME, DIGEST)
        assert server.sent <= 1
        assert not (tmp_path / NAME).exists()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
