"""What the programs of pods keep their work in, run here without the folder that a pod has for it: nothing is left."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import dvc_compat as dvc
from pipelines.reference import of_run
from pipelines.study_data import step_input

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = {  # each fails once it has its folder
    "study_data": ["--study", "no study"],
    "study_cell": ["--study", "no study", "--cell", "drawn/unet/seed-0"],
    "study_tables": ["--study", "no study", "--verdicts", "[]"],
    "node": ["--stage", "train", "--params", "{}"],
}


def started(command: list[str], place: Path) -> subprocess.Popen[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "HYMUNET_"))}
    temporary = place / "tmp"
    temporary.mkdir()
    told = {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT), "HYMUNET_DVC_REMOTE": str(place / "remote")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *command], cwd=place, env={**own, **told}, **pipes)  # type: ignore[call-overload]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_fails_leaves_no_folder(program: str, tmp_path: Path) -> None:
    told = step_input(tmp_path / "outputs", None, [])
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"locks": {}, "failed": None}))
    told["inputs"]["artifacts"] = {"data": {"artifacts": [{"uri": str(data)}]}}
    command = ["-m", f"pipelines.{program}", *PROGRAMS[program], "--run", "run"]
    command += [] if program == "node" else ["--executor-input", json.dumps(told)]
    said, _ = started(command, tmp_path).communicate(timeout=100)
    assert "no lock is recorded" in said if program == "node" else "no study" in said, said
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_training_s_images_are_brought_to_the_pod_s_volume_for_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not to the one for temporary files, which is small."""
    work, seen = tmp_path / "work/project", []
    monkeypatch.setenv("HYMUNET_WORKSPACE", str(work))
    pull = dvc.pull
    monkeypatch.setattr(dvc, "pull", lambda repo, targets: seen.append(Path(repo.root_dir)) or pull(repo, targets))
    lock = tmp_path / "remote/pipeline-runs/run/dvc.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("schema: '2.0'\nstages: {}\n")
    with pytest.raises(ConnectionError, match="--reference run: its images cannot be pulled"):
        of_run("run", str(tmp_path / "remote"), None)
    assert [place.is_relative_to(work) for place in seen] == [True]
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("named", [False, True])
def test_sigterm_takes_the_folder_along_and_leaves_one_that_is_named(named: bool, tmp_path: Path) -> None:
    code = "from pathlib import Path; from pipelines.scratch import *; end_on_termination()\n"
    code += f"with workplace({'Path(' + repr(str(tmp_path)) + ')' if named else ''}) as place:\n"
    code += " (place / 'file').touch(); print('ready', flush=True); import time; time.sleep(60)"
    process = started(["-c", code], tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (tmp_path / "file").exists() == named
