"""Checkpoints: whole or passed over, of this run or refused; never executed."""

import json
import os
import pickle
import random
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from hymunet.training.checkpoint import Checkpoint, Checkpoints, _seal, _unseal
from hymunet.training.checkpoint_store import Folder, keys, open_storage

CONFIGURATION = {"model": {"name": "hymunet"}, "train": {"learning_rate": 0.001}, "data_sha256": "d"}


def checkpoint(step: int) -> Checkpoint:
    tensors = {"weights": torch.full((50,), float(step)), "flag": torch.tensor(step % 2 == 0)}
    return Checkpoint(step, tensors, {"history": [{"epoch": 1, "dice": 0.1 + step}]})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def checkpoints(folder):
    return Checkpoints(Folder(folder), CONFIGURATION)


def assert_is(found: Checkpoint | None, step: int) -> None:
    assert found is not None
    assert found.step == step
    assert found.state == checkpoint(step).state
    assert list(found.state["history"][0]) == ["epoch", "dice"]  # in the order given
    for name, tensor in checkpoint(step).tensors.items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype


def test_the_newest_comes_back_as_it_was_and_two_are_kept(checkpoints, folder):
    assert checkpoints.newest() is None
    for step in (5, 9, 100, 1000):
        checkpoints.save(checkpoint(step))
    assert_is(checkpoints.newest(), 1000)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("000000100.json", "000000100.safetensors", "000001000.json", "000001000.safetensors")
    ]


def test_the_step_decides_not_the_time_of_the_file(checkpoints, folder):
    for step in (5, 9):
        checkpoints.save(checkpoint(step))
    for path in folder.glob("000000005.*"):
        os.utime(path, (2**31, 2**31))
    assert_is(checkpoints.newest(), 9)


def test_a_cut_or_changed_checkpoint_is_passed_over_by_name(checkpoints, folder, caplog):
    """Every kind of damage to either file of the newest: the one before it is taken."""
    for step in (5, 9):
        checkpoints.save(checkpoint(step))
    source = random.Random(0)
    for suffix in ("safetensors", "json"):
        path = folder / f"000000009.{suffix}"
        whole = path.read_bytes()
        damages = [whole[:length] for length in {0, 1, len(whole) // 2, len(whole) - 1}]
        for _ in range(200):
            place, bit = source.randrange(len(whole)), 1 << source.randrange(8)
            damages.append(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        for damage in damages:
            caplog.clear()
            path.write_bytes(damage)
            assert_is(checkpoints.newest(), 5)
            assert "checkpoint 000000009.json passed over" in caplog.text
        path.unlink()
        if suffix == "safetensors":
            assert_is(checkpoints.newest(), 5)
        path.write_bytes(whole)
    assert_is(checkpoints.newest(), 9)


def test_with_every_checkpoint_damaged_the_run_begins_anew_and_says_so(checkpoints, folder, caplog):
    checkpoints.save(checkpoint(5))
    (folder / "000000005.safetensors").write_bytes(b"")
    assert checkpoints.newest() is None
    assert "starts from the beginning" in caplog.text


def test_another_configuration_is_refused_by_name(checkpoints, folder):
    checkpoints.save(checkpoint(5))
    other = {**CONFIGURATION, "train": {"learning_rate": 0.01}}
    with pytest.raises(
        ValueError, match=r"000000005\.json belongs to run .*train\.learning_rate: 0\.01 here, 0\.001 there"
    ):
        Checkpoints(Folder(folder), other).newest()


def test_a_checkpoint_of_another_format_is_no_damage(checkpoints, folder):
    checkpoints.save(checkpoint(5))
    path = folder / "000000005.json"
    path.write_bytes(_seal({**_unseal(path.read_bytes()), "format": 99}))
    with pytest.raises(ValueError, match=r"000000005\.json has format 99, this version reads 1"):
        checkpoints.newest()


class Canary:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_is_never_executed(checkpoints, folder, tmp_path, caplog):
    """Even under a manifest that vouches for it."""
    import hashlib

    checkpoints.save(checkpoint(5))
    canary = tmp_path / "canary"
    torch.save({"weights": Canary(canary)}, tmp_path / "evil.pt")
    for evil in (pickle.dumps(Canary(canary)), (tmp_path / "evil.pt").read_bytes()):
        path = folder / "000000005.safetensors"
        path.write_bytes(evil)
        manifest = folder / "000000005.json"
        honest = {**_unseal(manifest.read_bytes()), "bytes": len(evil), "sha256": hashlib.sha256(evil).hexdigest()}
        manifest.write_bytes(_seal(honest))
        assert checkpoints.newest() is None
        assert "not safetensors" in caplog.text
        assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary))).close()
    assert canary.exists()  # it would have sung


def test_a_manifest_of_nonsense_is_passed_over(checkpoints, folder):
    checkpoints.save(checkpoint(5))
    for number, nonsense in enumerate([b"", b"[]", b"null", b"{}", json.dumps({"sha256": "", "manifest": 3}).encode()]):
        (folder / f"{900 + number:09d}.json").write_bytes(nonsense)
    assert_is(checkpoints.newest(), 5)


@pytest.mark.parametrize(
    "place", ["https://" + "user:secret@host/path", "gs://bucket/prefix", "S3://bucket", "file:///x"]
)
def test_an_address_that_is_no_store_makes_no_folder(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for look in (lambda: open_storage(place, "key"), lambda: keys(place)):
        with pytest.raises(ValueError, match=r"checkpoints are kept in a folder or at s3://bucket/prefix") as refused:
            look()
        assert "secret" not in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "place", ["s3://" + "user:secret@bucket/prefix", "s3://secret@bucket", "s3://bucket/p?key=secret"]
)
@pytest.mark.parametrize("what", ["checkpoints", "results", "compiled code"])
def test_a_bucket_s_address_with_a_secret_is_refused_and_not_repeated(place, what):
    with pytest.raises(ValueError, match=f"the address of {what} holds a user, .*AWS_ACCESS_KEY_ID") as refused:
        open_storage(place, "key", what)
    assert "secret" not in str(refused.value)
    with pytest.raises(ValueError, match=r"the address of checkpoints holds a user") as refused:
        keys(place)
    assert "secret" not in str(refused.value)


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="checkpoints cannot be written here"):
        open_storage(str(tmp_path / "file"), "key")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused_at_once(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="cannot be written here"):
        open_storage(str(tmp_path), "key")


def test_leftovers_of_a_killed_writer_are_cleared(folder):
    folder.mkdir()
    for name in (".000000005.safetensors.0123abcd.tmp", "000000005.safetensors.tmp"):  # and of an earlier version
        (folder / name).write_bytes(b"half")
    assert Folder(folder).names() == []
    assert len(list(folder.iterdir())) == 2, "they may be those of another process, which writes them now"
    Checkpoints(Folder(folder), CONFIGURATION).newest()
    assert list(folder.iterdir()) == []


def test_many_may_open_a_folder_and_write_there_at_once(tmp_path):
    """Machines that share a study's results, and begin together."""

    def one(number: int) -> None:
        for _ in range(20):
            open_storage(str(tmp_path), "cells", "results").write("same", b"x" * 1000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert [path.name for path in (tmp_path / "cells").iterdir()] == ["same"]


def test_a_full_disk_leaves_the_older_checkpoints_and_no_litter(checkpoints, folder, monkeypatch):
    import errno

    checkpoints.save(checkpoint(5))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=re.escape(f"No space left on device: '{folder / '000000009.safetensors'}'")):
        checkpoints.save(checkpoint(9))
    assert_is(checkpoints.newest(), 5)
    assert len(list(folder.iterdir())) == 2
