"""The folder of a local run is open to everyone while containers write there, and no longer, however runs end."""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.run_folder import open_to_containers

HOLDS = """
import sys, time
from pathlib import Path
from pipelines.run_folder import open_to_containers
with open_to_containers(Path(sys.argv[1])):
    print("open", flush=True)
    time.sleep(600)
"""


def killed(root: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(root)], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"open\n"
        run.send_signal(signal.SIGKILL)
    assert mode(root) == 0o777


def ended(root: Path) -> None:
    with open_to_containers(root):
        assert mode(root) == 0o777


def failed(root: Path) -> None:
    with contextlib.suppress(RuntimeError), open_to_containers(root):
        raise RuntimeError


def two_at_once(root: Path) -> None:
    with open_to_containers(root):
        ended(root)
        assert mode(root) == 0o777, "the other one still writes"


def mode(root: Path) -> int:
    return root.stat().st_mode & 0o777


@pytest.mark.parametrize("before", [0o700, 0o755, 0o775, 0o777])
@pytest.mark.parametrize(
    "runs", [[ended], [failed], [killed, ended], [killed, killed, failed], [two_at_once], [killed, two_at_once]]
)
def test_the_folder_has_its_mode_again(tmp_path: Path, before: int, runs: list) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    root.chmod(before)
    for run in runs:
        run(root)
    assert mode(root) == before
    root.chmod(0o711)
    ended(root)
    assert mode(root) == 0o711, "what was changed between two runs holds"


def test_runs_that_come_and_go_leave_it_as_it_was(tmp_path: Path) -> None:
    program = f"{HOLDS.replace('600', 'random.random() / 50')}".replace("import sys, time", "import random, sys, time")
    many = program.replace("with open", "for _ in range(60):\n  with open").replace("\n    ", "\n      ")
    tmp_path.chmod(0o750)
    runs = [subprocess.Popen([sys.executable, "-c", many, str(tmp_path)], stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [run.wait(100) for run in runs] == [0] * 4
    assert mode(tmp_path) == 0o750
