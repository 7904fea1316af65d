"""What goes wrong with one cell is that cell's alone."""

import time
from pathlib import Path

import pytest

from hymunet.study import locks, plan, run, state
from hymunet.study.data import Places


def a_file_is_in_the_way(work: Path) -> None:
    work.parent.mkdir(parents=True)
    work.write_text("")


def a_folder_has_the_log_s_name(work: Path) -> None:
    (work / state.LOG).mkdir(parents=True)


def a_folder_has_the_note_s_name(work: Path) -> None:
    (work / state.FAILED).mkdir(parents=True)


@pytest.mark.parametrize("spoil", [a_file_is_in_the_way, a_folder_has_the_log_s_name, a_folder_has_the_note_s_name])
def test_a_cell_that_cannot_begin_leaves_the_others_running(tmp_path, study, spoil):
    planned = plan.load(study)
    places = Places(tmp_path / "work", {})
    first, *others = (cell for cell in planned.cells if cell.model in ("unet", "ward"))
    spoil(state.workplace(places, first))
    states = {cell: state.State("missing") for cell in (others[0], first, others[1])}
    runner = run.Runner(planned, places, states, workers=2, closed=False)
    assert runner.run(list(states)) == 1
    assert {found.kind for found in states.values()} == {"failed"}
    assert str(state.workplace(places, first)) in states[first].why
    for cell in others[:2]:  # they ended by themselves: no images are there
        assert "`hymunet study run` makes them" in states[cell].why
        assert not locks.taken(state.workplace(places, cell))


def test_a_failure_that_cannot_be_noted_leaves_the_others_running(tmp_path, study):
    planned = plan.load(study)
    places = Places(tmp_path / "work", {})
    cells = [cell for cell in planned.cells if cell.model == "unet"]
    states = {cell: state.State("missing") for cell in cells}
    runner = run.Runner(planned, places, states, workers=len(cells), closed=False)
    for cell in cells:
        runner._start(cell)
    (state.workplace(places, cells[0]) / state.FAILED).mkdir()
    while runner.working:
        runner._collect()
        time.sleep(0.05)
    assert {found.kind for found in states.values()} == {"failed"}
    assert "not noted for the next run" in states[cells[0]].why
    assert all("`hymunet study run` makes them" in states[cell].why for cell in cells[1:])
