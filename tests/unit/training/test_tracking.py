"""The journal: every point once, whatever was cut off, and never in the training's way."""

import errno
import json

import pytest

from hymunet.training.tracking.journal import JOURNAL, Journal, Tracker, open_tracker, parse

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


def test_tracking_can_be_switched_off(tmp_path, monkeypatch):
    monkeypatch.setenv("HYMUNET_TRACKING", "off")
    tracker = open_tracker(tmp_path / "journal", "key", DESCRIPTION)
    assert type(tracker) is Tracker
    with tracker:
        tracker.metrics(1, {"loss": 1.0})
        tracker.finish("FINISHED")
    assert not (tmp_path / "journal").exists()
