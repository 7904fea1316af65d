"""What is kept of a cell holds as long as what it depends on is the same; who computes a cell has it alone."""

import contextlib
import errno
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hymunet import closure
from hymunet.commit import NAMED, git_commit
from hymunet.study import cell, locks, plan, results, run, state
from hymunet.study.data import Places
from tests.support import small_study
from tests.support.closed import command as without_rights

NET = {"unet": {"title": "U-Net", "model": {"name": "unet", "size": [4, 8]}}}
FILES = {"prepared/prepare.json": '{"sha256": "' + "d" * 64 + '"}', "split/split.csv": "id,group,split\n"}


@pytest.fixture
def there(tmp_path: Path) -> tuple[Path, Places]:
    """A study, and images whose hashes alone matter here."""
    folder = small_study.write_study(tmp_path / "mini", models=NET, tables={}, seeds=[0])
    for name, text in FILES.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).write_text(text)
    return folder, Places(tmp_path / "work", {"drawn": tmp_path / "data"})


def found(folder: Path, places: Places) -> state.State:
    planned = plan.load(folder)
    return state.state(planned, planned.cells[0], places)


def publish(folder: Path, places: Places) -> None:
    planned = plan.load(folder)
    wanted = state.expected(planned, planned.cells[0], places.of(planned.cells[0]))
    small_study.publish(folder, "unet", 0, small_study.drawn_rows("unet", 0), **wanted)


def test_a_result_holds_until_what_it_depends_on_changes(there: tuple[Path, Places]) -> None:
    folder, places = there
    assert found(folder, places).kind == "missing"
    publish(folder, places)
    assert found(folder, places).kind == "done"
    (places.given["drawn"] / "split/split.csv").write_text("id,group,split\nA,A,test\n")
    assert (found(folder, places).kind, found(folder, places).why) == ("stale", "other split")
    assert found(folder, Places(places.work, {})).kind == "done", "where the images are not, the record is believed"


CHANGES = {
    "the epochs": ({"train": {"epochs": 3}}, ("stale", "train.epochs: 3 in the study, 12 in the result")),
    "the resamples": ({"evaluate": {"bootstrap": 300}}, ("stale", "evaluate.bootstrap: 300 in the study, 100 in the ")),
    "how it is loaded": ({"train": {"workers": 3}}, ("done", "")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_settings_that_matter_make_it_stale(there: tuple[Path, Places], change: str) -> None:
    folder, places = there
    publish(folder, places)
    content = json.loads((folder / "study.yaml").read_text())
    changes, (kind, why) = CHANGES[change]
    for section, values in changes.items():
        content["params"][section] |= values
    (folder / "study.yaml").write_text(json.dumps(content))
    assert found(folder, places).kind == kind
    assert found(folder, places).why.startswith(why)


@pytest.mark.parametrize("key", ["training_code", "scoring_code"])
def test_code_that_matters_makes_it_stale(
    there: tuple[Path, Places], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    folder, places = there
    publish(folder, places)
    now = state._code("unet")
    monkeypatch.setattr(state, "_code", lambda model: {**now, key: "edited"})
    assert found(folder, places).why == f"other {results.CODE[key]}"


def test_a_failure_is_told_until_what_failed_is_another(there: tuple[Path, Places]) -> None:
    folder, places = there
    planned = plan.load(folder)
    work = state.workplace(places, planned.cells[0])
    work.mkdir(parents=True)
    (work / "log.txt").write_text("epoch 1/3\n\nRuntimeError: no memory\n\n")
    assert state.note_failure(planned, planned.cells[0], places, 70) == "RuntimeError: no memory"
    assert found(folder, places).why == f"exit code 70: RuntimeError: no memory ({work / 'log.txt'})"
    (places.given["drawn"] / "split/split.csv").write_text("id,group,split\nA,A,test\n")
    assert found(folder, places).kind == "missing"


HOLDER = """
import sys, time
from pathlib import Path
from hymunet.study.locks import lock
with lock(Path(sys.argv[1])) as free:
    print(free, flush=True)
    time.sleep(float(sys.argv[2]))
"""


def test_a_cell_belongs_to_one_process_until_that_ends_however_it_ends(there: tuple[Path, Places]) -> None:
    folder, places = there
    work = state.workplace(places, plan.load(folder).cells[0])
    command = [sys.executable, "-c", HOLDER, str(work)]
    holder = subprocess.Popen([*command, "60"], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "True\n"
    assert found(folder, places).kind == "running"
    with locks.lock(work) as free:
        assert not free
    holder.kill()
    holder.wait()
    assert found(folder, places).kind == "missing"
    looking = subprocess.Popen([*command, "0.5"], stdout=subprocess.PIPE, text=True)
    assert looking.stdout
    looking.stdout.readline()
    start = time.monotonic()
    with locks.lock(work, 10) as free:
        assert free, "who only looked for an instant keeps nobody out"
    assert time.monotonic() - start < 5
    looking.wait()


@pytest.mark.parametrize("held", [False, True])
def test_who_may_only_read_a_workspace_sees_its_state(there: tuple[Path, Places], held: bool) -> None:
    folder, places = there
    work = state.workplace(places, plan.load(folder).cells[0])
    command = [sys.executable, "-m", "hymunet.cli", "study", "status", str(folder), "--work", str(places.work)]
    with contextlib.ExitStack() as holding:
        holding.enter_context(locks.lock(work))
        command = without_rights(command, work / locks.FILE)
        if not held:
            holding.close()
        said = subprocess.run(command, cwd=small_study.ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert ("1 running" if held else "1 missing") in said.stdout


@pytest.mark.parametrize("closed", [False, True])
def test_a_cell_that_another_run_has_just_finished_is_not_computed_again(
    there: tuple[Path, Places], closed: bool
) -> None:
    """There is nothing to compute it from here: the arrays are missing."""
    folder, places = there
    publish(folder, places)
    planned = plan.load(folder)
    record = planned.results(planned.cells[0]) / "cell.json"
    before = record.stat().st_mtime_ns
    assert cell.compute(planned, planned.cells[0], places, closed) == 0
    assert record.stat().st_mtime_ns == before
    assert cell.compute(planned, planned.cells[0], places, closed) == 0
    with locks.lock(state.workplace(places, planned.cells[0])):
        assert cell.compute(planned, planned.cells[0], places, closed) == cell.BUSY


@pytest.mark.parametrize(("ends", "code"), [("is at work", 75), ("has finished", 0), ("was stopped", 75)])
def test_a_run_is_done_when_the_cells_that_another_one_had_are_there(
    there: tuple[Path, Places], ends: str, code: int
) -> None:
    folder, places = there
    planned = plan.load(folder)
    work = state.workplace(places, planned.cells[0])
    with locks.lock(work):
        states = {one: state.state(planned, one, places) for one in planned.cells}
    assert run.to_do(states, closed=False, missing_only=False) == []
    if ends == "has finished":
        publish(folder, places)
    with locks.lock(work) if ends == "is at work" else contextlib.nullcontext():
        runner = run.Runner(planned, places, states, workers=1, closed=False)
        assert runner.run([]) == code
    expected = {"is at work": "running", "has finished": "done", "was stopped": "missing"}
    assert [one.kind for one in runner.states.values()] == [expected[ends]]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "WORK: No space left on device; `hymunet clean` lists what"),
        (OSError(errno.EACCES, "Permission denied", "a/b"), "a/b: Permission denied; change its permissions, or name"),
        (ValueError("tested on other images"), "tested on other images"),
        (OSError("http://ann:" + "s3cret@store/b is away"), "http://store/b is away"),
        (ValueError("s3://ann:" + "s3cret@bucket/p: no place"), "s3://bucket/p: no place"),
    ],
)
def test_a_cells_last_line_names_what_failed_and_the_remedy(
    there: tuple[Path, Places],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    said: str,
) -> None:
    folder, places = there

    def fails(*_: object) -> int:
        raise error

    monkeypatch.setattr(cell, "compute", fails)
    monkeypatch.setenv(NAMED, "a commit")
    assert cell.main([str(folder), "drawn/unet/seed-0", "--work", str(places.work)]) == 1
    expected = f"drawn/unet/seed-0: {said.replace('WORK', str(places.work))}"
    assert capsys.readouterr().err.startswith(expected)


@pytest.mark.parametrize(
    ("changed", "dirty"),
    [("results/drawn/unet/seed-1/cell.json", False), ("tables/drawn/table_1.md", False), ("study.yaml", True)],
)
def test_what_the_study_published_before_is_no_change_of_the_code(
    there: tuple[Path, Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, dirty: bool
) -> None:
    """Of a cell that is computed anew, a stale one say, the commit is that of the code; so with its training's run."""
    repository = tmp_path / "repository"
    folder = repository / "studies/mini"
    shutil.copytree(there[0], folder)
    for name in ("results/drawn/unet/seed-1/cell.json", "tables/drawn/table_1.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("of before")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        names = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *names, *arguments], cwd=repository, check=True)
    with (folder / changed).open("a") as file:
        file.write("\n# new\n")
    monkeypatch.setattr(closure, "ROOT", repository)
    monkeypatch.setenv(NAMED, "")
    recorded = []
    monkeypatch.setattr(cell, "compute", lambda *_: recorded.append(git_commit(closure.ROOT)) or 0)
    monkeypatch.delenv(NAMED)
    assert cell.main([str(folder), "drawn/unet/seed-0", "--work", str(tmp_path / "work")]) == 0
    assert [commit.endswith("-dirty") for commit in recorded] == [dirty]
