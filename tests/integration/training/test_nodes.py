"""One training on two machines, as Kubeflow Trainer starts it: killed, gone on with, and what it tells on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.training.torchrun import assert_same_training, run, start
from tests.support.servers import free_port
from tests.support.training_data import ROOT, Inputs, drawn, write_inputs, write_params, written

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
EPOCHS = 3


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return write_inputs(tmp_path_factory.mktemp("inputs") / "inputs", *drawn(33, 32), validation=7, test=4)


@pytest.fixture(scope="module")
def alone(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training in one process."""
    folder = tmp_path_factory.mktemp("alone")
    run(folder, inputs, 1, epochs=EPOCHS, sync_batch_norm=True)
    return folder


class Trainer:
    """What Kubeflow Trainer answers to a training that tells how far it is."""

    def __init__(self, token: Path) -> None:
        self.told: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        trainer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                trainer.tokens.add(self.headers["Authorization"])
                trainer.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        token.write_text("the token\n")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{self.server.server_port}/status"
        self.environment = {"KUBEFLOW_TRAINER_STATUS_URL": address, "KUBEFLOW_TRAINER_STATUS_TOKEN": str(token)}


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    opened = Trainer(tmp_path / "token")
    yield opened
    opened.server.shutdown()
    opened.server.server_close()


def machines(folder: Path, inputs: Inputs, told: dict[str, str]) -> list[subprocess.Popen[str]]:
    """Two of them, with a disk each and one place for checkpoints, one rank on each."""
    port = str(free_port())
    started = []
    for rank in range(2):
        meeting = {"PET_NNODES": "2", "PET_NODE_RANK": str(rank), "PET_MASTER_ADDR": "127.0.0.1"}
        own = {**meeting, "PET_MASTER_PORT": port, "HYMUNET_CHECKPOINTS": str(folder / "checkpoints"), **told}
        place = folder / f"node-{rank}"
        started.append(start(place, inputs, 1, own=True, environment=own, epochs=EPOCHS, checkpoint_minutes=0.0001))
    return started


@pytest.mark.slow
def test_two_machines_killed_once_train_what_one_process_trains(
    inputs: Inputs, alone: Path, trainer: Trainer, tmp_path: Path
) -> None:
    first, second = machines(tmp_path / "whole", inputs, {})
    outs = [one.communicate(timeout=300) for one in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outs
    whole = tmp_path / "whole/node-0"
    assert_same_training(whole, alone)
    assert not (tmp_path / "whole/node-1/model").exists(), "the first machine alone writes"

    first, second = machines(tmp_path / "killed", inputs, trainer.environment)
    assert first.stdout is not None
    assert "epoch 1/3" in first.stdout.readline()
    os.killpg(second.pid, signal.SIGKILL)
    for one in (first, second):
        one.communicate(timeout=300)
        assert one.returncode not in (0, 1, 2), "a code that is worth another try"
    first, second = machines(tmp_path / "killed", inputs, trainer.environment)
    (out, error), _ = (one.communicate(timeout=300) for one in (first, second))
    assert (first.returncode, second.returncode) == (0, 0), error
    assert "goes on at step" in out
    assert written(tmp_path / "killed/node-0") == written(whole)

    said = [one["trainerStatus"] for one in trainer.told]
    assert trainer.tokens == {"Bearer the token"}
    assert said[-1]["progressPercentage"] == 100
    assert said[-1]["estimatedRemainingSeconds"] == 0
    shown = {one["name"]: float(one["value"]) for one in said[-1]["metrics"]}
    last = json.loads((whole / "reports/history.json").read_text())[-1]
    assert (shown["epoch"], shown["epochs"]) == (EPOCHS, EPOCHS)
    assert shown["validation_dice"] == pytest.approx(last["validation_dice"], rel=1e-4)
    assert any(0 < one["progressPercentage"] < 100 and one["estimatedRemainingSeconds"] > 0 for one in said)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"PET_NODE_RANK": "2"}, "PET_NNODES=2, and PET_NODE_RANK='2'"),
        ({"PET_MASTER_ADDR": ""}, "PET_MASTER_ADDR=''"),
        ({"PET_NNODES": "two"}, "PET_NNODES='two': expected a whole number"),
    ],
)
def test_variables_that_do_not_fit_are_one_line(changed: dict[str, str], message: str) -> None:
    from hymunet.training.launch import Nodes

    given = {"PET_NNODES": "2", "PET_NODE_RANK": "0", "PET_MASTER_ADDR": "a", "PET_MASTER_PORT": "1"}
    assert Nodes.named(given) == Nodes(2, 0, "a:1")
    assert Nodes.named({**given, "RANK": "0"}) == Nodes()
    with pytest.raises(ValueError, match=message):
        Nodes.named(given | changed)


def train_here() -> None:
    """Run by the SDK's local backend in each of torchrun's processes."""
    import json
    import os
    import runpy
    import sys

    os.chdir(os.environ["TRAINING_FOLDER"])
    sys.argv = ["components.train", *json.loads(os.environ["TRAINING_ARGUMENTS"])]
    runpy.run_module("components.train", run_name="__main__")


def torch_wheel(folder: Path) -> Path:
    """A torch that is the one here, by a path file: the backend installs torch into an environment of its own."""
    name, info = "torch-0.0", "torch-0.0.dist-info"
    wheel = folder / f"{name}-py3-none-any.whl"
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    files = {
        "here.pth": f"{ROOT}\n{packages}\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: torch\nVersion: 0.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ntorchrun = torch.distributed.run:main\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


@pytest.mark.slow
def test_the_sdks_local_backend_runs_two_ranks_killed_and_gone_on_with(
    inputs: Inputs, alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("kubeflow.trainer", reason="needs the extra `kubeflow`")
    from kubeflow.trainer import CustomTrainer, LocalProcessBackendConfig, TrainerClient
    from kubeflow.trainer.options.common import Name

    from pipelines import train_nodes

    client = TrainerClient(LocalProcessBackendConfig())
    folder = tmp_path / "local"
    folder.mkdir()
    values = {"batch_size": 8, "sync_batch_norm": True, "example_every": 0, "epochs": EPOCHS}
    parameters = write_params(folder / "params.yaml", **values, checkpoint_minutes=0.0001)
    outputs = ["--model", str(folder / "model"), "--reports", str(folder / "reports")]
    environment = {
        "PATH": os.environ["PATH"],
        "PET_NPROC_PER_NODE": "2",
        "PET_STANDALONE": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "HYMUNET_TRACKING": "off",
        "HYMUNET_CHECKPOINTS": str(folder / "checkpoints"),
        "TRAINING_FOLDER": str(folder),
        "TRAINING_ARGUMENTS": json.dumps(["--params", str(parameters), *inputs.arguments(), *outputs]),
    }
    sdk = CustomTrainer(
        func=train_here, env=environment, packages_to_install=[f"torch @ file://{torch_wheel(tmp_path)}"]
    )

    def begin() -> None:
        client.train(runtime="torch-distributed", trainer=sdk, options=[Name("ours")])

    killer = threading.Thread(target=kill_one_rank, args=(str(folder), folder / "checkpoints"))
    killer.daemon = True
    killer.start()
    assert not train_nodes.finished(client, "ours", begin, pause=0.2), "a rank was killed"
    killer.join()
    assert train_nodes.finished(client, "ours", begin, pause=0.2), capsys.readouterr().out[-4000:]
    out = capsys.readouterr().out
    assert out.count("TrainJob ours is started") == 2
    assert "  | train: goes on at step" in out
    assert "TrainJob ours: Complete" in out
    assert_same_training(folder, alone)
    shutil.rmtree(folder)


def kill_one_rank(folder: str, checkpoints: Path) -> None:
    """The second rank, once there is a checkpoint."""
    until = time.monotonic() + 240
    while time.monotonic() < until:
        if checkpoints.exists() and any(checkpoints.rglob("*.json")):
            for process in psutil.process_iter():
                try:
                    environment = process.environ()
                except (psutil.Error, OSError):
                    continue
                if environment.get("TRAINING_FOLDER") == folder and environment.get("RANK") == "1":
                    process.kill()
                    return
        time.sleep(0.05)
