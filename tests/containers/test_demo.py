"""`make kubeflow-demo`: compose.yaml started for real, and the demo profile in containers on its stores.

Where no registry can be reached, stand-ins take the names of the images that compose pulls (stand_ins/Dockerfile).
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest

from tests.containers.composed import STORES, environment_of
from tests.containers.stack import STEPS, build_options, snapshot
from tests.support.servers import S3Server, answers

pytestmark = [pytest.mark.containers, pytest.mark.integration, pytest.mark.timeout(3600)]


@dataclass
class Demo:
    """The script behind `make kubeflow-demo`, run to its end in a copy of the project."""

    engine: str
    folder: Path
    environment: dict[str, str]
    code: int = -1
    log: str = ""

    def run(self) -> None:
        done = self._run("bash", "infra/docker/demo.sh")
        self.code, self.log = done.returncode, done.stdout
        drawn = (self.folder / "build/kubeflow/secrets.env").read_text().splitlines()
        self.environment |= dict(line.split("=", 1) for line in drawn)

    def compose(self, *arguments: str) -> str:
        return self._run(self.engine, "compose", *arguments).stdout

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | self.environment
        return subprocess.run(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )


@pytest.fixture(scope="module")
def demo(engine: str, pulled: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    programs = tmp_path_factory.mktemp("programs")
    (programs / "docker").symlink_to(engine)
    folder = snapshot(tmp_path_factory.mktemp("demo"))
    environment = {
        **environment_of(engine),
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "BUILD_OPTIONS": " ".join(build_options(engine)),
    }
    demo = Demo(engine, folder, environment)
    try:
        demo.run()
        assert demo.code == 0, demo.log[-6000:] + demo.compose("logs", "--tail", "40")
        yield demo
    finally:
        demo.compose("down", "--volumes")


def test_the_demo_computes_every_step_on_the_stores_of_compose(demo: Demo) -> None:
    states = re.findall(r"^(\w+) +(computed|restored|failed|rejected) ", demo.log, re.MULTILINE)
    assert dict(states) == dict.fromkeys(STEPS, "computed")
    print(*re.findall(r"^ *exec-.* in its container$", demo.log, re.MULTILINE), demo.log[-3000:], sep="\n")


def test_its_model_is_in_mlflow_and_mlflow_is_on_postgresql(demo: Demo) -> None:
    client = mlflow.MlflowClient(STORES[0])
    [version] = client.search_model_versions("name = 'hymunet-demo'")
    run = client.get_run(version.run_id)
    assert run.data.metrics
    query = "select count(*) from model_versions where name = 'hymunet-demo'"
    assert demo.compose("exec", "-T", "postgres", "psql", "-U", "mlflow", "-tAc", query, "mlflow").strip() == "1"


def test_data_and_artifacts_are_in_its_store(demo: Demo) -> None:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    store = S3Server(STORES[1], {name: demo.environment[name] for name in names}).client()
    pages = store.get_paginator("list_objects_v2").paginate(Bucket="hymunet")
    listed = [entry["Key"] for page in pages for entry in page["Contents"]]
    for prefix in ("dvc/files/", "dvc/runs/", "dvc/pipeline-runs/", "checkpoints/", "mlflow/"):
        assert any(key.startswith(prefix) for key in listed), prefix


def test_what_listens_listens_on_this_machine_alone(demo: Demo) -> None:
    services = [json.loads(line) for line in demo.compose("ps", "--format", "json").splitlines()]
    assert {service["Service"]: service["Health"] for service in services} == dict.fromkeys(
        ("postgres", "s3", "mlflow"), "healthy"
    )
    listed = [service["Publishers"] or [] for service in services]  # null where nothing is published: the database
    published = [port for ports in listed for port in ports if port["PublishedPort"]]
    assert {port["URL"] for port in published} == {"127.0.0.1"}
    assert {port["PublishedPort"] for port in published} == {5000, 8333}


def test_the_registry_outlives_its_containers(demo: Demo) -> None:
    demo.compose("down")
    assert not answers(STORES[0])
    demo.compose("up", "--wait")
    assert [v.version for v in mlflow.MlflowClient(STORES[0]).search_model_versions("name = 'hymunet-demo'")] == ["1"]
