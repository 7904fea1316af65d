"""What is told of a run at its end: it succeeded, or failed and why, or was stopped and where."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dvc", reason="needs the extra `dvc`")

from pipelines import finish
from pipelines.finish import STEPS, outcome
from pipelines.part import Part
from pipelines.records import Record, Run
from pipelines.workspace import open_remote

CELLS = ["drawn/unet/seed-0", "drawn/unet/seed-1", "tables"]


def record(stage: str, state: str = "computed", reason: str = "") -> Record:
    return Record(stage, state, 1.0, 0.5, 0, 0, "c0ffee", reason)


@pytest.mark.parametrize(
    ("states", "parts", "expected"),
    [
        (dict.fromkeys(STEPS, "computed"), STEPS, "succeeded"),
        (dict.fromkeys(STEPS, "restored"), STEPS, "succeeded"),
        (
            {},
            STEPS,
            "no step has left a record: the first one failed before it reached the store; its own log says why",
        ),
        (
            {"download": "computed", "prepare": "failed"},
            STEPS,
            "failed: prepare failed: why; 5 of 7 parts did not begin",
        ),
        (
            {"download": "computed", "prepare": "computed", "split": "computed", "validate": "rejected"},
            STEPS,
            "failed: validate rejected: why; 3 of 7 parts did not begin",
        ),
        ({"download": "begun"}, STEPS, "stopped: download began and has no end; 6 of 7 parts did not begin"),
        ({"download": "computed"}, STEPS, "stopped before prepare; 6 of 7 parts did not begin"),
        (dict.fromkeys(CELLS, "computed"), CELLS, "succeeded"),
        ({CELLS[0]: "begun", CELLS[1]: "begun"}, CELLS[:2], f"stopped: {CELLS[0]}, {CELLS[1]} began and have no end"),
        ({CELLS[0]: "skipped", CELLS[1]: "failed"}, CELLS[:2], f"failed: {CELLS[0]} skipped: why (and 1 more)"),
        ({CELLS[0]: "begun", CELLS[1]: "failed"}, CELLS[:2], f"failed: {CELLS[1]} failed: why"),
        ({"train": "begun"}, [], "stopped: train began and has no end"),
        ({"train": "computed"}, [], "what is recorded ended well"),
    ],
)
def test_a_runs_end_is_told_in_a_line(states: dict[str, str], parts: list[str], expected: str) -> None:
    bad = ("failed", "rejected", "skipped")
    records = [record(name, state, "why" if state in bad else "") for name, state in states.items()]
    assert outcome(records, parts) == expected


@pytest.mark.parametrize(
    ("states", "parts", "kind"),
    [
        ({"train": "computed"}, ["train"], "good"),
        ({"train": "restored"}, [], "good"),
        ({"train": "failed"}, ["train"], "bad"),
        ({"train": "begun"}, [], "bad"),
        ({}, ["train"], "bad"),
    ],
)
def test_the_page_shows_a_good_end_as_one(states: dict[str, str], parts: list[str], kind: str) -> None:
    records = [record(name, state) for name, state in states.items()]
    note = outcome(records, parts)
    assert f"<p class={kind}>{note}</p>" in finish.page("run", records, parts, note)


@pytest.fixture
def remote(tmp_path: Path) -> str:
    return str(tmp_path / "remote")


def told(remote: str, run: str, tmp_path: Path, *options: str) -> tuple[str, str]:
    """The page, and the outcome that the run's folder keeps."""
    report = {"name": "report", "uri": str(tmp_path / "report")}
    outputs = {"artifacts": {"report": {"artifacts": [report]}}, "outputFile": str(tmp_path / "output.json")}
    given = ["--run", run, "--remote", remote, "--executor-input", json.dumps({"outputs": outputs})]
    assert finish.main([*given, *options]) == 0
    return (tmp_path / "report").read_text(), (Path(remote) / "pipeline-runs" / run / "outcome").read_text()


def states(remote: str, run: str, tmp_path: Path) -> dict[str, tuple[str, str, int]]:
    (tmp_path / "look").mkdir(exist_ok=True)
    with open_remote(tmp_path / "look", remote) as store:
        found = Run(store, run).records()
    return {one.stage: (one.state, one.reason, one.status) for one in found}


def test_what_a_newer_version_adds_to_a_record_is_no_hindrance(remote: str, tmp_path: Path) -> None:
    with Part(remote, "run", "tables").recorded() as part:
        ends(part)
    written = Path(remote) / "pipeline-runs/run/tables.json"
    written.write_text(json.dumps({**json.loads(written.read_text()), "energy": 3.5}))
    assert states(remote, "run", tmp_path) == {"tables": ("computed", "", 0)}


def ends(part: Part) -> None: ...


def is_skipped(part: Part) -> None:
    part.state, part.reason = "skipped", "drawn: no data"


def raises(part: Part) -> None:
    raise ValueError("epochs = 0:\n must be at least 1")


def exits(part: Part) -> None:
    raise SystemExit


def fails_with_a_status(part: Part) -> None:
    error = OSError("the store closed the connection")
    error.status = 74  # type: ignore[attr-defined]
    raise error


@pytest.mark.parametrize(
    ("does", "expected"),
    [
        (ends, ("computed", "", 0)),
        (is_skipped, ("skipped", "drawn: no data", 0)),
        (raises, ("failed", "epochs = 0: must be at least 1", 0)),
        (exits, ("failed", "SystemExit", 0)),
        (fails_with_a_status, ("failed", "the store closed the connection", 74)),
    ],
)
def test_a_part_is_recorded_from_its_begin(
    does: Any, expected: tuple[str, str, int], remote: str, tmp_path: Path
) -> None:
    def run() -> None:
        with Part(remote, "run-1", CELLS[0]).recorded() as part:
            seen.update(states(remote, "run-1", tmp_path / "first"))
            does(part)

    seen: dict[str, Any] = {}
    (tmp_path / "first").mkdir()
    if expected[0] == "failed":
        with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever it was, it goes on
            run()
    else:
        run()
    assert seen == {CELLS[0]: ("begun", "", 0)}
    (tmp_path / "second").mkdir()
    assert states(remote, "run-1", tmp_path / "second") == {CELLS[0]: expected}


def test_a_store_that_fails_fails_no_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    with Part(str(tmp_path / "file/remote"), "run-1", CELLS[0]).recorded():
        pass
    assert "its state, begun, cannot be recorded" in capsys.readouterr().err


def test_without_a_run_nothing_is_recorded(remote: str) -> None:
    with Part(remote, None, CELLS[0]).recorded():
        pass
    assert not Path(remote).exists()


def test_the_page_of_a_study_has_its_data_and_every_cell(remote: str, tmp_path: Path) -> None:
    for run, name in [("run-1-drawn", "download"), ("run-1-drawn", "prepare"), ("run-1", CELLS[0])]:
        with Part(remote, run, name).recorded():
            pass
    page, kept = told(remote, "run-1", tmp_path, "--parts", json.dumps(CELLS), "--sets", '["drawn"]')
    assert kept == "stopped before drawn/split; 4 of 7 parts did not begin\n"
    assert page.count("<td class=good>computed") == 3
    assert page.count("<td class=bad>not begun") == 4
    assert "drawn/prepare" in page
    assert "stopped before drawn/split" in page


def test_by_hand_it_tells_a_run_that_was_ended_without_its_exit_handler(
    remote: str, capsys: pytest.CaptureFixture[str]
) -> None:
    part = Part(remote, "run-1", "train")
    part._write("begun")
    assert finish.main(["--run", "run-1", "--remote", remote]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[1].split()[:2] == ["train", "begun"]
    assert table[-1] == "stopped: train began and has no end"
    assert not (Path(remote) / "pipeline-runs/run-1/outcome").exists(), "by hand nothing is written"
