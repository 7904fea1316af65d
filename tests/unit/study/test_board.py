"""The live table and what it says is left; which cells are computed; which GPU is whose."""

import io
import time
from pathlib import Path

import pytest

from hymunet.study import board, run
from hymunet.study.data import Places
from hymunet.study.plan import Cell, load
from hymunet.study.results import Result
from hymunet.study.state import State
from tests.support import small_study

A, B, C, D = (Cell("drawn", model, seed) for model in ("unet", "attention") for seed in (0, 1))


class Scores(Result):
    def metrics(self):
        return {"test": {"dice": {"mean": 0.87654}}}


def done(seconds=60.0):
    return State("done", result=Scores(Path(), {"training_seconds": seconds, "files": {"metrics.json": ""}}))


STATES = {A: done(), B: State("running"), C: State("failed", "exit code 1"), D: State("missing")}


def test_a_line_a_model_and_a_column_a_seed():
    lines = [line.split() for line in board.table(STATES, {B: 0.25}).splitlines()]
    assert lines == [
        ["set", "model", "seed", "0", "seed", "1"],
        ["drawn", "unet", "0.8765", "25%"],
        ["drawn", "attention", "failed", "."],
    ]
    assert board.totals(STATES, 3725) == "1 done, 1 running, 1 failed, 1 missing; about 1:02:05 left"
    assert board.reasons(STATES) == ["drawn/attention/seed-0: failed: exit code 1"]


STALE = {
    "tested": (Scores(Path(), {"files": {"metrics.json": ""}}), "0.8765*"),
    "tests closed": (Scores(Path(), {"files": {}, "validation_dice": 0.81234}), "(0.8123)*"),
}


@pytest.mark.parametrize("case", STALE)
def test_what_is_stale_keeps_its_score_with_a_star(case):
    result, said = STALE[case]
    states = {A: done(), B: State("stale", "other training code", result)}
    assert board.table(states, {}).splitlines()[1].split() == ["drawn", "unet", "0.8765", said]
    assert board.totals(states) == "1 done, 1 stale (*)"


def test_what_is_stale_for_one_reason_is_one_line():
    stale, other = State("stale", "other training code"), State("stale", "other split")
    failed = State("failed", "exit code 1")
    assert board.reasons({A: stale, B: failed, C: stale, D: other}) == [
        "2 cells, first drawn/unet/seed-0: stale: other training code",
        "drawn/unet/seed-1: failed: exit code 1",
        "drawn/attention/seed-1: stale: other split",
    ]
    assert len(board.reasons({A: failed, B: failed})) == 2, "each has a log of its own"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_the_table_is_drawn_over_itself(monkeypatch):
    monkeypatch.setenv("LINES", "30")
    stream = Terminal()
    live = board.Board(stream)
    live.show(STATES, {}, None)
    live.show({**STATES, B: done()}, {}, 0)
    first, second = stream.getvalue().split("\033[4F")
    assert first.count("\n") == 4
    assert "0.8765  0.8765" in second


def test_a_low_terminal_shows_what_is_at_work(monkeypatch):
    monkeypatch.setenv("LINES", "4")
    stream = Terminal()
    board.Board(stream).show(STATES, {}, None)
    assert "unet" in stream.getvalue()
    assert "attention" not in stream.getvalue()


@pytest.mark.parametrize("columns", [12, 20, 29, 30])
def test_a_narrow_terminal_gets_lines_that_fit(monkeypatch, columns):
    monkeypatch.setenv("LINES", "30")
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    board.Board(stream).show(STATES, {}, None)
    lines = stream.getvalue().removeprefix(board.CLEAR).splitlines()
    assert [len(line) <= columns for line in lines] == 4 * [True]
    assert all(line.endswith("…") for line in lines if len(line) == columns), "it is seen where something is left out"


def test_elsewhere_a_line_is_added_when_something_changed():
    stream = io.StringIO()
    plain = board.Board(stream)
    plain.show(STATES, {}, None)
    plain.show(STATES, {B: 0.5}, 10)
    plain.show({**STATES, B: done()}, {}, 12)
    assert stream.getvalue() == "drawn/unet/seed-1 done 0.8765 [2 done, 1 failed, 1 missing; about 0:00:12 left]\n"


@pytest.mark.parametrize(
    ("closed", "missing_only", "expected"),
    [(False, False, "trained stale missing failed damaged stopped"), (True, True, "missing failed damaged stopped")],
)
def test_what_is_computed(closed, missing_only, expected):
    kinds = ["done", "running", *["trained", "stale", "missing", "failed", "damaged", "stopped"]]
    states = {Cell("drawn", kind, 0): State(kind) for kind in kinds}
    assert [cell.model for cell in run.to_do(states, closed, missing_only)] == expected.split()


def test_what_is_left_is_reckoned_from_the_same_model_else_from_all(tmp_path):
    planned = load(small_study.write_study(tmp_path / "mini", models=small_nets(), tables={}))
    runner = run.Runner(planned, Places(tmp_path / "work", {}), {A: done(60.0), B: State("missing")}, 2, False)
    log = tmp_path / "log"
    log.write_bytes(b"epoch 9/100  loss\nepoch 10/100  loss\n")
    assert runner.seconds_left([B], {}) == 30, "one of a minute by two workers"
    assert runner.seconds_left([B, C], {}) == 60, "another model is taken to be as slow"
    runner.seconds[C] = 100.0
    assert runner.seconds_left([D], {}) == 50
    runner.working[B] = run.Working(None, log, 0, start=time.monotonic() - 50)
    assert runner.working[B].progress() == 0.1
    assert runner.seconds_left([], {B: 0.1}) == pytest.approx(5, abs=1), "the typical minute, less what has passed"


def test_without_any_experience_nothing_is_said_until_a_tenth_is_done(tmp_path):
    planned = load(small_study.write_study(tmp_path / "mini", models=small_nets(), tables={}))
    runner = run.Runner(planned, Places(tmp_path / "work", {}), {A: State("missing")}, 1, False)
    assert runner.seconds_left([A], {}) is None
    runner.working[A] = run.Working(None, tmp_path, 0, start=time.monotonic() - 50)
    assert runner.seconds_left([], {}) is None
    assert runner.seconds_left([], {A: 0.1}) == pytest.approx(450, abs=2)


@pytest.mark.parametrize(
    ("count", "variable", "expected"),
    [(0, None, []), (2, None, ["0", "1"]), (2, "3,5", ["3", "5"]), (1, "GPU-1a2b", ["GPU-1a2b"]), (1, "0,1", ["0"])],
)
def test_gpus_are_those_that_are_visible(monkeypatch, count, variable, expected):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert run.visible_gpus({"CUDA_VISIBLE_DEVICES": variable} if variable else {}) == expected


def small_nets():
    return {name: {"title": name, "model": {"name": "unet", "size": [4, 8]}} for name in ("unet", "attention")}
