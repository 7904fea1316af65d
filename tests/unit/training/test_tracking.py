"""The journal: every point once, whatever was cut off, and never in the training's way."""

import errno
import json
import os
import shutil

import pytest

from hymunet.training.checkpoint_store import open_storage
from hymunet.training.tracking.journal import Journal, Tracker, open_tracker, parse
from hymunet.training.tracking.keeper import JOURNAL, restore_all
from hymunet.training.tracking.sampler import Sampler

DESCRIPTION = {"params": {"train.epochs": 3}, "tags": {}}


def lines(folder):
    return [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]


def points(folder):
    return [(key, r["step"], value) for r in lines(folder) for key, value in r.get("metrics", {}).items()]


def test_a_run_is_told_from_beginning_to_end(tmp_path):
    with Journal(tmp_path / "run", DESCRIPTION) as journal:
        journal.metrics(10, {"loss": 0.5, "images_per_second": 40.0})
        journal.reports(tmp_path)
        journal.finish("FINISHED")
    kinds = [(set(record) - {"time"}).pop() for record in lines(tmp_path / "run") if "step" not in record]
    assert kinds == ["run", "reports", "status"]
    assert points(tmp_path / "run") == [("loss", 10, 0.5), ("images_per_second", 10, 40.0)]
    assert lines(tmp_path / "run")[-1]["status"] == "FINISHED"


def test_a_run_that_raises_has_failed(tmp_path):
    with pytest.raises(ZeroDivisionError), Journal(tmp_path / "run", DESCRIPTION):
        raise ZeroDivisionError
    assert lines(tmp_path / "run")[-1]["status"] == "FAILED"


def test_steps_that_were_told_are_not_told_again_after_a_restart(tmp_path):
    for told in (range(0, 50, 10), range(30, 90, 10)):  # the second life goes on from a checkpoint at 20
        with Journal(tmp_path / "run", DESCRIPTION) as journal:
            for step in told:
                journal.metrics(step, {"loss": float(step)})
                if step % 20 == 0:
                    journal.metrics(step, {"validation_dice": float(step)})
    assert sorted(points(tmp_path / "run")) == sorted(
        [("loss", step, float(step)) for step in range(0, 90, 10)]
        + [("validation_dice", step, float(step)) for step in range(0, 90, 20)]
    )


def test_a_journal_cut_anywhere_is_mended(tmp_path):
    with Journal(tmp_path / "whole", DESCRIPTION) as journal:
        for step in (1, 2, 3):
            journal.metrics(step, {"loss": float(step)})
    content = (tmp_path / "whole" / JOURNAL).read_bytes()
    for length in range(0, len(content), 3):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / JOURNAL).write_bytes(content[:length])
        with Journal(folder, DESCRIPTION) as journal:
            for step in (1, 2, 3):
                journal.metrics(step, {"loss": float(step)})
        assert points(folder) == [("loss", step, float(step)) for step in (1, 2, 3)]


def test_a_full_disk_costs_lines_but_no_training(tmp_path):
    class Full:
        def __init__(self, file):
            self.file, self.room = file, 30

        def write(self, content):
            if self.room == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = self.file.write(content[: self.room])
            self.room -= written
            return written

        def __getattr__(self, name):
            return getattr(self.file, name)

    with Journal(tmp_path, DESCRIPTION) as journal:
        file = journal.file
        journal.file = Full(file)
        journal.metrics(1, {"loss": 1.0})  # half a line
        journal.metrics(2, {"loss": 2.0})  # nothing
        journal.file = file
        journal.metrics(3, {"loss": 3.0})
    told = parse((tmp_path / JOURNAL).read_bytes())
    assert [record["step"] for record in told if "metrics" in record] == [3]


@pytest.mark.parametrize("missing", [1, 2, 20])
@pytest.mark.parametrize("whose", ["the training's", "the sampler's"])
def test_a_line_cut_by_a_full_disk_costs_no_other(tmp_path, whose, missing):
    """Nor does one that lacks nothing but its end of line, or that the process beside the training wrote."""
    with Journal(tmp_path, DESCRIPTION) as journal:
        if whose == "the training's":
            journal.metrics(1, {"loss": 1.0})
        else:
            sampler = Sampler(tmp_path)
            sampler.next = 0.0
            sampler.sample()
        path = tmp_path / JOURNAL
        os.truncate(path, path.stat().st_size - missing)
        journal.metrics(2, {"loss": 2.0})
        os.truncate(path, path.stat().st_size - missing)
        sampler = Sampler(tmp_path)
        sampler.next = 0.0
        sampler.sample()
        journal.metrics(3, {"loss": 3.0})
        journal.finish("FINISHED")
    told = parse((tmp_path / JOURNAL).read_bytes())
    assert [record["step"] for record in told if "loss" in record.get("metrics", {})][-1] == 3
    assert any("system/cpu_percent" in record.get("metrics", {}) for record in told)
    assert told[-1]["status"] == "FINISHED"


def test_tracking_can_be_switched_off(tmp_path, monkeypatch):
    monkeypatch.setenv("HYMUNET_TRACKING", "off")
    tracker = open_tracker(tmp_path / "journal", "key", DESCRIPTION)
    assert type(tracker) is Tracker
    with tracker:
        tracker.metrics(1, {"loss": 1.0})
        tracker.finish("FINISHED")
    assert not (tmp_path / "journal").exists()


def steps(folder):
    return [record["step"] for record in parse((folder / JOURNAL).read_bytes()) if "metrics" in record]


@pytest.mark.parametrize("chosen", ["no", "none", "of", " off", "2", "disabled"])
def test_a_switch_that_is_neither_on_nor_off_is_refused(tmp_path, monkeypatch, chosen):
    monkeypatch.setenv("HYMUNET_TRACKING", chosen)
    with pytest.raises(ValueError, match=f"HYMUNET_TRACKING='{chosen}': expected on or off"):
        open_tracker(tmp_path, "key", {})


def test_a_new_machine_begins_with_the_journal_that_lies_beside_the_checkpoints(tmp_path):
    """The first machine ends without delivery; nothing that was told before its last checkpoint is lost or doubled."""
    storage = open_storage(str(tmp_path / "checkpoints"), "key")
    with Journal(tmp_path / "first/key", DESCRIPTION, storage) as journal:
        for step in range(6):
            journal.metrics(step, {"loss": 1.0})
            if step == 3:
                journal.sync()  # with a checkpoint
                kept = storage.read(JOURNAL)
    storage.write(JOURNAL, kept)  # as if it had ended there
    with Journal(tmp_path / "second/key", DESCRIPTION, storage) as journal:
        for step in range(2, 8):  # from the checkpoint on, and a step before it
            journal.metrics(step, {"loss": 1.0})
    assert steps(tmp_path / "second/key") == list(range(8))
    assert storage.read(JOURNAL) == (tmp_path / "second/key" / JOURNAL).read_bytes()


def test_a_machine_that_the_run_comes_back_to_takes_the_longer_journal_and_forgets_what_it_delivered(tmp_path):
    storage = open_storage(str(tmp_path / "checkpoints"), "key")
    for machine, until in (("a", 2), ("b", 5)):
        with Journal(tmp_path / machine, DESCRIPTION, storage) as journal:
            for step in range(until):
                journal.metrics(step, {"loss": 1.0})
        (tmp_path / machine / "delivered.json").write_text("{}")
    with Journal(tmp_path / "a", DESCRIPTION, storage):
        assert not (tmp_path / "a/delivered.json").exists()
    assert steps(tmp_path / "a") == list(range(5))


def test_a_store_that_takes_no_journal_costs_the_training_nothing(tmp_path, caplog):
    class Away:
        def names(self):
            return []

        def write(self, name, content):
            raise OSError("the store is away")

    with Journal(tmp_path / "run", DESCRIPTION, Away()) as journal:
        journal.metrics(1, {"loss": 1.0})
        journal.sync()
    assert steps(tmp_path / "run") == [1]
    assert "the store is away" in caplog.text


def test_a_journal_that_is_removed_meanwhile_costs_no_checkpoint(tmp_path, caplog):
    storage = open_storage(str(tmp_path / "checkpoints"), "key")
    with Journal(tmp_path / "run", DESCRIPTION, storage) as journal:
        shutil.rmtree(tmp_path / "run")
        journal.sync()
        journal.finish("FINISHED")
    assert "the journal's copy beside the checkpoints is not up to date" in caplog.text


def test_journals_of_every_run_are_found_beside_the_checkpoints(tmp_path):
    for key in ("one", "two"):
        with Journal(tmp_path / "pod" / key, DESCRIPTION, open_storage(str(tmp_path / "checkpoints"), key)) as journal:
            journal.metrics(1, {"loss": 1.0})
    assert restore_all(str(tmp_path / "checkpoints"), tmp_path / "home") == ["one", "two"]
    assert [steps(tmp_path / "home" / key) for key in ("one", "two")] == [[1], [1]]
