"""The shared remote: it is the place that is named, and what is recorded there is whole."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("dvc", reason="needs the extra `dvc`")

from pipelines.finish import told
from pipelines.records import BEGUN, Record, Run
from pipelines.workspace import open_remote


@pytest.mark.parametrize("name", ["a#b", "a,b", "a b", "a%b", "a'b", 'a"b', "[a]", "$HOME", "~a", "\u00e4", "a "])
def test_the_remote_and_the_folder_are_those_that_are_named(name: str, tmp_path: Path) -> None:
    """Of `a#b` DVC made `a`, another's place, and `a,b` ended in a traceback."""
    (tmp_path / name).mkdir()
    with open_remote(tmp_path / name, f"{tmp_path}/remote/{name}") as store:
        Run(store, "run").write_outcome("succeeded")
    assert (tmp_path / "remote" / name / "pipeline-runs/run/outcome").read_text() == "succeeded\n"


@contextmanager
def nothing_can_be_written() -> Iterator[None]:
    """As on a full disk: files can be opened, and emptied."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


WRITTEN: dict[str, Callable[[Run, str], None]] = {
    "fetch.json": lambda run, text: run.write(Record("fetch", BEGUN, 0, 0, 0, 0, text)),
    "dvc.lock": lambda run, text: run.write_lock(text),
    "outcome": lambda run, text: run.write_outcome(text),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_full_disk_leaves_what_was_recorded_before(name: str, tmp_path: Path) -> None:
    """The file was emptied first: the run's page said that no record can be read, and its lock was lost."""
    (tmp_path / "work").mkdir()
    with open_remote(tmp_path / "work", str(tmp_path / "remote")) as store:
        run = Run(store, "run")
        WRITTEN[name](run, "before")
        folder = tmp_path / "remote/pipeline-runs/run"
        before = (folder / name).read_bytes()
        with nothing_can_be_written(), pytest.raises(OSError, match="File too large"):
            WRITTEN[name](run, "after")
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: before}
    if name == "fetch.json":
        assert told(str(tmp_path / "remote"), "run", [], ["fetch"], keep=False)[1].startswith("stopped: fetch began")
