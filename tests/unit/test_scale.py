"""The arithmetic of docs/scale.md: schedules keep what they must, the fit goes through its points, the page agrees."""

import json
from pathlib import Path

import pytest

from benchmarks.scale import DATA, GPUS, Assumed, Search, cells, filled, measured, report, schedule

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_one_gpu_takes_the_sum_and_many_the_longest() -> None:
    assumed = Assumed(data=100, pod=10, tables=5)
    every = [30.0, 50.0, 20.0]
    assert schedule(every, 1, assumed).seconds == 100 + 3 * 10 + 100 + 5
    assert schedule(every, 3, assumed).seconds == schedule(every, 64, assumed).seconds == 100 + 10 + 50 + 5
    assert schedule(every, 2, assumed).seconds == 100 + (10 + 30) + (10 + 20) + 5
    assert schedule(every, 1, Assumed(data=0, pod=0, tables=0)).efficiency == 1.0


def test_more_gpus_are_never_slower_and_cost_the_same() -> None:
    every = cells(measured(), Assumed())
    runs = [schedule(every, gpus, Assumed()) for gpus in GPUS]
    assert [run.seconds for run in runs] == sorted((run.seconds for run in runs), reverse=True)
    assert len({run.held for run in runs}) == 1
    assert all(run.seconds >= max(every) + Assumed().data for run in runs)


def test_a_cell_takes_its_steps_and_what_is_between() -> None:
    """hymunet, the first cell: 200 epochs of 2,075 images in batches of 24, the last 11 images of an epoch left out."""
    assert cells(measured() | {"hymunet": 0.01}, Assumed(between=0.5))[0] == pytest.approx(200 * 86 * 0.01 * 1.5)


def test_the_search_goes_through_what_was_measured() -> None:
    record = json.loads(DATA.read_text())["split"]
    search, (few, many) = Search.fitted(record), record["images"]
    assert search.seconds(many) / search.seconds(few) == pytest.approx(record["growth_of_processor_time"], rel=1e-6)
    assert search.seconds(many) == pytest.approx(many * record["processor_milliseconds_per_image"] / 1000)
    assert 0 < search.square_share(many) < search.square_share(10**6) < 1


def test_the_page_is_what_the_command_writes() -> None:
    page = (ROOT / "docs/scale.md").read_text()
    assert filled(page, report()) == page, "python -m benchmarks.scale --into docs/scale.md"
