"""Servers that take connections and say nothing: each client gives up soon, with a line that names the address."""

import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("s3fs", reason="needs the extra `dvc`")
pytest.importorskip("kfp", reason="needs the extra `pipelines`")

import s3fs

from hymunet import silence
from hymunet.data.acquire import remote as remotes
from hymunet.training import checkpoint_store
from pipelines.bucket import Place
from pipelines.cluster import Cluster
from pipelines.workspace import open_remote

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
PLACE = "s3://bucket/prefix"
SOON = 30  # seconds, on a loaded machine; what the clients wait by themselves is minutes, or for ever


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in (("CONNECT", 1), ("READ", 0.3)):
        monkeypatch.setattr(silence, name, value)
    monkeypatch.setattr(remotes, "TIMEOUT", (1, 0.3))
    monkeypatch.setattr(checkpoint_store, "ATTEMPTS", 2)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setattr(s3fs.S3FileSystem, "read_timeout", 0.3)
    s3fs.S3FileSystem.clear_instance_cache()
    with socket.create_server(("127.0.0.1", 0), backlog=100) as taking:
        address = f"http://127.0.0.1:{taking.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, "us-east-1")
        yield address


def written(remote: str) -> None:
    """Not through `Run`, which asks whether its folder is there before it writes."""
    with tempfile.TemporaryDirectory() as folder, open_remote(Path(folder), remote) as store:
        store.fs.pipe_file(store.fs.join(store.path, "dvc.lock"), b"stages: {}")


ASKED: dict[str, Callable[[str], object]] = {
    "checkpoints, compiled code, results of cells": lambda _: checkpoint_store.open_storage(PLACE, "key"),
    "a list of runs": lambda _: checkpoint_store.keys(PLACE),
    "a mirror in a bucket": lambda _: remotes.remote(PLACE).info("archive.zip"),
    "a mirror on a web server": lambda address: remotes.remote(address).info("archive.zip"),
    "images in a bucket, listed": lambda _: Place(PLACE).versions(),
    "an image of a bucket": lambda _: Place(PLACE).read("a.png"),
    "masks into a bucket": lambda _: Place(PLACE).write("a.png", b"mask"),
    "the remote of a run": lambda _: written(PLACE),
    "Kubeflow": lambda address: Cluster.connect(address, "team", "none").show("run-0"),
}


@pytest.mark.parametrize("asked", ASKED)
def test_a_server_that_says_nothing_is_given_up_soon_and_named(asked: str, address: str) -> None:
    begin = time.monotonic()
    with pytest.raises(Exception, match=address):
        ASKED[asked](address)
    assert time.monotonic() - begin < SOON
