"""The machines of a TrainJob over a shared remote: the first keeps the result, which the step then takes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hymunet.overrides import overridden
from hymunet.params import read_yaml
from pipelines import step, train_nodes
from pipelines.study_data import STAGES, made, step_input
from tests.containers.stack import TINY
from tests.support.servers import free_port

ROOT = Path(__file__).resolve().parents[3]
pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def params() -> str:
    content = read_yaml(ROOT / "profiles/paper.yaml")
    content["model"] = {"name": "unet", "size": [4, 8]}
    changes = {**TINY, "data.source": "synthetic", "train.epochs": "3", "train.checkpoint_minutes": "0.0001"}
    return json.dumps(overridden(content, [f"{key}={value}" for key, value in changes.items()]))


def node(rank: int, port: int, remote: Path, params: str, work: Path) -> subprocess.Popen[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "HYMUNET_"))}
    told = {"PET_NNODES": "2", "PET_NODE_RANK": str(rank), "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)}
    told |= {"HYMUNET_WORKSPACE": str(work / f"node-{rank}"), "HYMUNET_CHECKPOINTS": str(remote.parent / "checkpoints")}
    told |= {"HYMUNET_TRACKING": "off", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HYMUNET_RANKS": "1"}
    told |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    (work / f"node-{rank}").mkdir(parents=True)
    command = [sys.executable, "-m", "pipelines.node", "--stage", "train", "--run", "run", "--params", params]
    return subprocess.Popen(
        [*command, "--remote", str(remote)],
        cwd=ROOT,
        env={**own, **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_two_machines_killed_once_leave_one_result_that_the_step_takes(
    params: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = tmp_path / "remote"
    monkeypatch.setenv("HYMUNET_DVC_REMOTE", str(remote))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    lock, failed = made("drawn", params, "run", tmp_path / "data")
    assert failed is None, list(STAGES)

    port = free_port()
    first, second = (node(rank, port, remote, params, tmp_path / "one") for rank in range(2))
    assert first.stdout is not None
    said = []
    for line in first.stdout:
        said.append(line)
        if "epoch 1/3" in line:
            break
    assert "epoch 1/3" in said[-1], "".join(said)
    os.killpg(second.pid, signal.SIGKILL)
    for one in (first, second):
        one.communicate(timeout=300)
        assert one.returncode not in (0, 1, 2)

    port = free_port()
    first, second = (node(rank, port, remote, params, tmp_path / "two") for rank in range(2))
    outs = [one.communicate(timeout=300)[0] for one in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), "\n".join(outs)
    assert "goes on at step" in outs[0]
    assert "step: train computed" in outs[0]

    before = tmp_path / "before"
    before.write_text(lock)
    told = step_input(tmp_path / "outputs", before, [])
    told["outputs"]["artifacts"]["model"] = {"artifacts": [{"name": "model", "uri": str(tmp_path / "outputs/model")}]}
    argv = ["--stage", "train", "--run", "run", "--params", params, "--executor-input", json.dumps(told)]
    argv += ["--model", "artifacts/model", "--workspace", str(tmp_path / "controller")]
    assert step.main(argv, performs=train_nodes.OverNodes) == 0
    pointer = json.loads((tmp_path / "outputs/model").read_text())
    assert pointer["path"] == "artifacts/model"
    assert "artifacts/model" in (tmp_path / "outputs/lock").read_text()
