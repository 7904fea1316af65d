"""A store that fails for a while costs no checkpoint: on a folder, and on S3 through a proxy that misbehaves."""

import errno
import http.server
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hymunet.training.checkpoint import Checkpoint, Checkpoints
from hymunet.training.checkpoint_store import Folder, open_storage
from tests.integration.training.proxy import FAILING, HEALTHY, REFUSING, Proxy

pytestmark = pytest.mark.integration
CONFIGURATION = {"train": {"seed": 0}}
MANIFEST, TENSORS = "000000009.json", "000000009.safetensors"
LISTING = "listing"


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"weights": torch.full((500,), float(step))}, {"history": []})


def names(storage) -> list[str]:
    return [name for name in storage.names() if not name.startswith(".")]


class FaultyFolder(Folder):
    """Fails with an error number where told to."""

    fault: tuple[str, int] | None = None

    def _strike(self, place: str) -> None:
        if self.fault and self.fault[0] == place:
            raise OSError(self.fault[1], os.strerror(self.fault[1]))

    def names(self) -> list[str]:
        self._strike(LISTING)
        return super().names()

    def read(self, name: str) -> bytes:
        self._strike(name)
        return super().read(name)

    def delete(self, name: str) -> None:
        self._strike("delete")
        super().delete(name)


@pytest.mark.parametrize("place", [LISTING, MANIFEST, TENSORS])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EACCES, errno.EMFILE])
def test_a_folder_that_cannot_be_read_for_a_while_is_no_damage(tmp_path, place, number):
    storage = FaultyFolder(tmp_path)
    for step in (5, 9):
        Checkpoints(storage, CONFIGURATION).save(checkpoint(step))
    before = names(storage)
    storage.fault = (place, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        Checkpoints(storage, CONFIGURATION).newest()
    storage.fault = None
    assert names(storage) == before
    found = Checkpoints(storage, CONFIGURATION).newest()
    assert found is not None
    assert found.step == 9


class MoodyStore(Proxy):
    """Before S3: treats the requests for one object, or for the list, as told."""

    place, treatment = "", HEALTHY

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        listed = "list-type" in request.path and self.place == LISTING
        struck = listed or (request.command == "GET" and request.path.endswith(f"/{self.place}"))
        self.mood = lambda _: HEALTHY
        if struck and self.treatment in ("503", "403", "429"):
            request.send_error(int(self.treatment))
        elif struck and self.treatment == "cut":
            request.send_response(200)
            request.send_header("Content-Length", "5000")
            request.end_headers()
            request.wfile.write(b"x" * 100)
        else:
            if struck:
                self.mood = lambda _: self.treatment
            super().answer(request)


@pytest.fixture
def s3(s3_server, monkeypatch, request):
    for key, value in s3_server.env.items():
        monkeypatch.setenv(key, value)
    bucket = s3_server.create_bucket(f"moody-{abs(hash(request.node.name))}")
    return open_storage(f"s3://{bucket}/checkpoints", "key")


@pytest.mark.parametrize("place", [LISTING, MANIFEST, TENSORS])
@pytest.mark.parametrize("treatment", [FAILING, REFUSING, "503", "429", "403", "cut"])
def test_s3_that_cannot_be_read_for_a_while_is_no_damage(s3, s3_server, place, treatment):
    import boto3
    from botocore.config import Config

    for step in (5, 9):
        Checkpoints(s3, CONFIGURATION).save(checkpoint(step))
    before, direct = names(s3), s3.client
    with MoodyStore(s3_server.endpoint) as store:
        once = Config(retries={"total_max_attempts": 1})  # as after five
        s3.client = boto3.client("s3", endpoint_url=store.uri, config=once)
        assert Checkpoints(s3, CONFIGURATION).newest().step == 9
        store.place, store.treatment = place, treatment
        with pytest.raises(OSError, match=r".") as raised:
            Checkpoints(s3, CONFIGURATION).newest()
    assert not isinstance(raised.value, FileNotFoundError)
    s3.client = direct
    assert names(s3) == before
    found = Checkpoints(s3, CONFIGURATION).newest()
    assert found is not None
    assert found.step == 9


def change(storage, name: str, content: Callable[[bytes], bytes]) -> None:
    storage.write(name, content(storage.read(name)))


DAMAGE = {
    "no tensors": lambda storage: storage.delete(TENSORS),
    "no tensors' bytes": lambda storage: change(storage, TENSORS, lambda _: b""),
    "cut tensors": lambda storage: change(storage, TENSORS, lambda content: content[:-1]),
    "other tensors": lambda storage: change(storage, TENSORS, lambda content: content[:-1] + b"\xff"),
    "cut manifest": lambda storage: change(storage, MANIFEST, lambda content: content[:-1]),
    "other manifest": lambda storage: change(storage, MANIFEST, lambda content: content.replace(b"9", b"8")),
    "no manifest": lambda storage: storage.delete(MANIFEST),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_what_is_not_there_or_not_what_was_written_is_passed_over(tmp_path, request, kind, damage):
    storage = Folder(tmp_path) if kind == "folder" else request.getfixturevalue("s3")
    for step in (5, 9):
        Checkpoints(storage, CONFIGURATION).save(checkpoint(step))
    DAMAGE[damage](storage)
    checkpoints = Checkpoints(storage, CONFIGURATION)
    found = checkpoints.newest()
    assert found is not None
    assert found.step == 5
    for step in (7, 11):  # before the damaged one, and past it: a whole one is always kept beside the newest
        checkpoints.save(checkpoint(step))
    assert names(storage) == [f"{step:09d}.{suffix}" for step in (7, 11) for suffix in ("json", "safetensors")], (
        "the damaged one is gone, and took no whole one's place"
    )


def test_a_later_whole_checkpoint_is_never_deleted(tmp_path):
    """Another process has gone further than this one, which still writes."""
    for step in (50, 100):
        Checkpoints(Folder(tmp_path), CONFIGURATION).save(checkpoint(step))
    behind = Checkpoints(Folder(tmp_path), CONFIGURATION)
    for step in (10, 20, 30):
        behind.save(checkpoint(step))
    found = behind.newest()
    assert found is not None
    assert found.step == 100
    assert {path.stem for path in tmp_path.iterdir()} == {"000000020", "000000030", "000000050", "000000100"}


def test_a_checkpoint_is_saved_though_older_ones_cannot_be_deleted(tmp_path, caplog):
    storage = FaultyFolder(tmp_path)
    checkpoints = Checkpoints(storage, CONFIGURATION)
    for step in (1, 2):
        checkpoints.save(checkpoint(step))
    storage.fault = ("delete", errno.EIO)
    checkpoints.save(checkpoint(3))
    assert "older than step 3 stay for now" in caplog.text
    storage.fault = None
    checkpoints.save(checkpoint(4))
    assert {path.stem for path in tmp_path.iterdir()} == {"000000003", "000000004"}


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        *((number, ValueError) for number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)),
        *((number, OSError) for number in (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.ETIMEDOUT)),
    ],
)
def test_a_folder_that_cannot_be_written_is_forbidden_or_away_for_a_while(tmp_path, monkeypatch, number, kind):
    """The first is a user's error; the second is worth trying again."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(kind, match=f"{tmp_path}/key: checkpoints cannot be written here") as raised:
        open_storage(str(tmp_path), "key")
    assert isinstance(raised.value, OSError) is (kind is OSError)


@pytest.mark.parametrize("place", ["s3://", "s3:///prefix", "s3://two words/prefix", "s3://a:b"])
def test_a_name_that_no_bucket_has_is_refused_for_good_in_one_line(place, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    with pytest.raises(ValueError, match=r"^s3://") as raised:
        open_storage(place, "key")
    assert "\n" not in str(raised.value)
