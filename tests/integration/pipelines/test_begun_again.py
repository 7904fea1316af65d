"""A container that is killed and started again in its pod meets the folder as it was left: it begins anew in it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("dvc", reason="needs the extra `dvc`")

from hymunet.overrides import overridden
from hymunet.params import read_yaml
from pipelines.workspace import MARK, Workspace
from tests.integration.pipelines.toy import PARAMS, STAGES, Toy

ROOT = Path(__file__).resolve().parents[3]
KILLED = {  # what is seen in the folder when the step is killed
    "before anything was copied": lambda work: work / MARK,
    "while sources were copied": lambda work: work / "dvc.yaml",
    "with a folder of DVC's and nothing in it": lambda work: work / ".dvc",
    "with its settings": lambda work: work / ".dvc/config",
    "while its inputs came": lambda work: work / "data/prepared",
    "while its program ran": lambda work: work / ".dvc/tmp/rwlock",
}


def killed_when(seen: Callable[[], bool], command: list[str], environment: dict[str, str], cwd: Path) -> None:
    """SIGKILL to a program and its children at the moment at which something is seen."""
    process = subprocess.Popen(command, env=environment, cwd=cwd, start_new_session=True)
    until = time.monotonic() + 60
    while not seen():
        assert process.poll() is None, "it ended"
        assert time.monotonic() < until
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("moment", KILLED)
def test_a_step_that_was_killed_begins_anew_in_its_folder(moment: str, after_first: Toy) -> None:
    work = after_first.root / "work/project"
    command, outputs = after_first.command("first", "fit", "check", PARAMS | {"fit": {"rate": 0.2, "sleep": 60}})
    command += ["--workspace", str(work)]
    killed_when(KILLED[moment](work).exists, command, after_first.environment(), after_first.root)
    locks = work / ".dvc/tmp/rwlock"
    if locks.exists():  # in a container its process has the number of the one before
        locks.write_text(re.sub(r'"pid": \d+', f'"pid": {os.getpid()}', locks.read_text()))
    for name in ("checkpoints/run/9.safetensors", "journal/run/journal.jsonl", "data/archives/.a.zip.part"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("hours of work")
    (work / "data/prepared").mkdir(parents=True, exist_ok=True)
    (work / "data/prepared/array.bin").unlink(missing_ok=True)
    (work / "data/prepared/array.bin").write_text("half of it")
    after_first.ran()
    after_first.step("first", "fit", "check", PARAMS | {"fit": {"rate": 0.2}}, "--workspace", str(work))
    assert after_first.ran() == ["fit"]
    assert (work / "data/prepared/array.bin").stat().st_size == 1000
    assert (work / "checkpoints/run/9.safetensors").read_text() == "hours of work"
    assert (work / "journal/run/journal.jsonl").exists()
    assert (work / "data/archives/.a.zip.part").exists()
    lock = (outputs / "lock").read_bytes()
    undisturbed = after_first.step("first", "fit", "check", PARAMS | {"fit": {"rate": 0.2}})
    assert ((undisturbed / "lock").read_bytes(), after_first.ran()) == (lock, [])


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_run_twice_in_one_folder_hands_on_the_same(stage: str, after_first: Toy) -> None:
    """A program that ended well, in a pod that was lost before anybody heard of it."""
    upstream = None if stage == STAGES[0] else STAGES[STAGES.index(stage) - 1]
    work = after_first.root / "work"
    params = PARAMS | {stage: PARAMS[stage] | {"new": 1}}
    options = ["--workspace", str(work)]
    once = after_first.step("first", stage, upstream, params, *options) / "lock"
    before = once.read_bytes()
    assert (after_first.step("first", stage, upstream, params, *options) / "lock").read_bytes() == before


@pytest.mark.parametrize("rank", [0, 1])
def test_a_machine_of_several_begins_anew_in_its_folder(rank: int, tmp_path: Path) -> None:
    """Its pod outlives its container: Kubeflow Trainer's pods are started again in place."""
    content = read_yaml(ROOT / "profiles/paper.yaml")
    changes = ["data.source=synthetic", "data.synthetic.images=400", "data.synthetic.size=96"]
    params, remote, work = json.dumps(overridden(content, changes)), tmp_path / "remote", tmp_path / "work"
    lock = remote / "pipeline-runs/run/dvc.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("schema: '2.0'\nstages: {}\n")
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "HYMUNET_"))}
    own |= {"HYMUNET_WORKSPACE": str(work), "PET_NODE_RANK": str(rank), "OMP_NUM_THREADS": "1"}
    own |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipelines.node", "--stage", "download", "--run", "run", "--params", params]
    command += ["--remote", str(remote)]
    killed_when(lambda: list((work / "project/data").glob("raw/.*.part")) != [], command, own, ROOT)
    done = subprocess.run(command, env=own, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    made = work / "project/data/raw"
    assert {path.name for path in made.iterdir()} == {"synthetic.zip", "SHA256SUMS", "source.json"}


@pytest.mark.parametrize("left", ["notes.txt", ".dvc/config", ".git/HEAD"])
def test_files_of_somebody_else_are_not_touched(left: str, tmp_path: Path) -> None:
    (tmp_path / left).parent.mkdir(exist_ok=True)
    (tmp_path / left).write_text("mine")
    with pytest.raises(ValueError, match="there are other files in this folder; name an empty one"):
        Workspace(tmp_path, "/remote").create(ROOT / "profiles", "{}", [])
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [left]


def test_a_folder_in_which_another_step_works_is_not_taken(after_first: Toy) -> None:
    work = after_first.root / "work"
    command, _ = after_first.command("first", "fit", "check", PARAMS | {"fit": {"rate": 0.2, "sleep": 60}})
    command += ["--workspace", str(work)]
    after_first.ran()
    first = subprocess.Popen(command, env=after_first.environment(), cwd=after_first.root, start_new_session=True)
    try:
        while after_first.ran() != ["fit"]:
            assert first.poll() is None
            time.sleep(0.05)
        second = subprocess.run(
            command, env=after_first.environment(), cwd=after_first.root, capture_output=True, text=True
        )
        assert second.stderr.splitlines()[-1].endswith(f"another step works in this folder: '{work}'")
        assert second.returncode == 74
        assert (work / "data/prepared/array.bin").exists()
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
