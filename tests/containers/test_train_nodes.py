"""Kubeflow Trainer's SDK runs two machines as containers of the pipeline's image: one killed, gone on with."""

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubeflow.trainer", reason="needs the extra `kubeflow`")

from kubeflow.trainer import ContainerBackendConfig, CustomTrainer, TrainerClient, TrainingRuntimeSource
from kubeflow.trainer.options.common import Name
from ruamel.yaml import YAML

from pipelines import train_nodes
from tests.integration.training.test_nodes import train_here
from tests.integration.training.torchrun import assert_same_training, run
from tests.support.training_data import drawn, write_inputs, write_params
from tests.unit.pipelines.test_trainjob import runtime

pytestmark = [pytest.mark.containers, pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]
WORKSPACE = "/workspace"
EPOCHS = 30  # enough that the kill comes before the end


def test_two_containers_one_killed_train_what_one_process_trains(
    images: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = write_inputs(tmp_path / "inputs", *drawn(33, 32), validation=7, test=4)
    run(tmp_path / "alone", inputs, 1, epochs=EPOCHS, sync_batch_norm=True)

    monkeypatch.setenv("HOME", str(tmp_path))
    definition = runtime()
    definition["spec"]["mlPolicy"]["numNodes"] = 2
    with (tmp_path / "runtime.yaml").open("w") as file:
        YAML().dump(definition, file)
    source = TrainingRuntimeSource(sources=[f"file://{tmp_path / 'runtime.yaml'}"])
    client = TrainerClient(ContainerBackendConfig(pull_policy="Never", runtime_source=source))
    seen = tmp_path / ".kubeflow/trainer/containers/ours"  # what the backend shows to its containers
    arguments = [one.replace(str(tmp_path), WORKSPACE) for one in inputs.arguments()]
    arguments += ["--params", f"{WORKSPACE}/params.yaml", "--model", f"{WORKSPACE}/model"]
    arguments += ["--reports", f"{WORKSPACE}/reports"]
    environment = {
        "PYTHONPATH": "/app",
        "OMP_NUM_THREADS": "1",
        "HYMUNET_TRACKING": "off",
        "HYMUNET_CHECKPOINTS": f"{WORKSPACE}/checkpoints",
        "TRAINING_FOLDER": WORKSPACE,
        "TRAINING_ARGUMENTS": json.dumps(arguments),
    }
    sdk = CustomTrainer(func=train_here, env=environment, num_nodes=2, image=images["cpu"])
    kept = tmp_path / "kept"
    kept.mkdir()
    keeping = Keeping(client, seen, kept)

    def begin() -> None:
        shutil.copytree(inputs.folder, seen / "inputs", dirs_exist_ok=True)
        shutil.copytree(kept, seen, dirs_exist_ok=True)
        values = {"batch_size": 8, "sync_batch_norm": True, "example_every": 0, "epochs": EPOCHS}
        write_params(seen / "params.yaml", **values, checkpoint_minutes=0.0001)
        for path in [seen, *seen.rglob("*")]:
            path.chmod(0o777)
        client.train(runtime="torch-distributed", trainer=sdk, options=[Name("ours")])

    killer = threading.Thread(target=kill_the_second, args=(seen,), daemon=True)
    killer.start()
    assert not train_nodes.finished(keeping, "ours", begin, pause=0.5), capsys.readouterr().out[-4000:]
    killer.join()
    assert train_nodes.finished(keeping, "ours", begin, pause=0.5), capsys.readouterr().out[-4000:]
    out = capsys.readouterr().out
    assert "goes on at step" in out
    assert_same_training(seen, tmp_path / "alone")
    client.delete_job("ours")


def kill_the_second(seen: Path) -> None:
    """Once there is a checkpoint."""
    import docker

    engine, until = docker.from_env(), time.monotonic() + 400
    while time.monotonic() < until:
        if any((seen / "checkpoints").rglob("*.json")):
            engine.containers.get("ours-node-1").kill()
            return
        time.sleep(0.05)


class Keeping:
    """The SDK's client, but for the checkpoints: the backend removes them with the job, a bucket would not."""

    def __init__(self, client: TrainerClient, seen: Path, kept: Path) -> None:
        self.client, self.seen, self.kept = client, seen, kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def delete_job(self, name: str) -> None:
        shutil.copytree(self.seen / "checkpoints", self.kept / "checkpoints")
        self.client.delete_job(name)
