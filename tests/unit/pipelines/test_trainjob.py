"""The TrainJob field by field, as the SDK posts it to an API server; its step waits, relays, takes over and resumes."""

import copy
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("kubeflow.trainer", reason="needs the extra `kubeflow`")

import kubernetes
from kubeflow.common.types import KubernetesBackendConfig
from kubeflow.trainer import TrainerClient

from components.needs import Needs
from pipelines import train_nodes, trainjob
from pipelines.settings import Settings
from tests.unit.pipelines.test_compile import DIGEST, cluster

JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/imaging/trainjobs"
RUNTIME = "/apis/trainer.kubeflow.org/v1alpha1/clustertrainingruntimes/torch-distributed"
PODS = "/api/v1/namespaces/imaging/pods"
NEEDS = Needs(cpu="8", memory="32Gi", disk="30Gi", hours=72, retries=10, shared_memory="8Gi", accelerator=True)
ACCELERATOR = {
    "count": 2,
    "nodes": 4,
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}


def runtime() -> dict[str, Any]:
    """Of Kubeflow Trainer's manifests, as much as the SDK reads."""
    container = {"name": "node", "image": "pytorch/pytorch"}
    template = {"metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}}}
    job = {"name": "node", "template": {**template, "spec": {"template": {"spec": {"containers": [container]}}}}}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "ClusterTrainingRuntime",
        "metadata": {"name": "torch-distributed", "labels": {"trainer.kubeflow.org/framework": "torch"}},
        "spec": {
            "mlPolicy": {"numNodes": 1, "torch": {"numProcPerNode": "auto"}},
            "template": {"spec": {"replicatedJobs": [job]}},
        },
    }


class API:
    """Keeps TrainJobs. `conditions`: what a job's status says, one for each time that it is asked for."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.conditions: list[str] = []
        self.posted: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, found: Any, status: int = 200) -> None:
                body = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == RUNTIME:
                    self.answer(runtime())
                elif path == PODS:
                    self.answer({"items": []})
                elif path.startswith(f"{JOBS}/") and path.rpartition("/")[2] in api.jobs:
                    self.answer(api.job(path.rpartition("/")[2]))
                else:
                    self.answer({"kind": "Status", "code": 404}, 404)

            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                api.posted.append(copy.deepcopy(sent))
                sent["metadata"] |= {"namespace": "imaging", "creationTimestamp": "2026-01-01T00:00:00Z"}
                api.jobs[sent["metadata"]["name"]] = sent
                self.answer(sent, 201)

            def do_DELETE(self) -> None:
                name = self.path.partition("?")[0].rpartition("/")[2]
                api.jobs.pop(name)
                api.deleted.append(name)
                self.answer({"kind": "Status", "status": "Success"})

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        configuration = kubernetes.client.Configuration(host=f"http://127.0.0.1:{self.server.server_port}")
        config = KubernetesBackendConfig(namespace="imaging", client_configuration=configuration)
        self.client = TrainerClient(backend_config=config)

    def job(self, name: str) -> dict[str, Any]:
        said = self.conditions.pop(0) if self.conditions else ""
        told = {
            "type": said,
            "status": "True",
            "reason": "r",
            "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        return {**self.jobs[name], "status": {"conditions": [told] if said else []}}


@pytest.fixture
def api() -> Iterator[API]:
    opened = API()
    yield opened
    opened.server.shutdown()
    opened.server.server_close()


@pytest.fixture(scope="module")
def settings() -> Settings:
    return cluster(
        accelerator=ACCELERATOR,
        queue="team",
        priority="research",
        labels={"team": "imaging"},
        annotations={"example.org/cost": "1"},
        service_account="hymunet",
        pull_secrets=["registry"],
        volumes=[{"claim": "scans", "path": "/mnt/scans"}],
    )


def start(api: API, settings: Settings, name: str = "hymunet-0") -> None:
    command = ["python", "-m", "pipelines.node", "--stage", "train"]
    options = trainjob.options(settings, NEEDS, name, command)
    api.client.train(runtime="torch-distributed", trainer=trainjob.trainer(settings, NEEDS), options=options)


def test_every_field_of_the_job_is_what_a_single_trainings_pod_has(api: API, settings: Settings) -> None:
    start(api, settings)
    [job] = api.posted
    assert (job["apiVersion"], job["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    assert job["metadata"] == {
        "name": "hymunet-0",
        "labels": {
            "team": "imaging",
            "kueue.x-k8s.io/queue-name": "team",
            "kueue.x-k8s.io/priority-class": "research",
        },
    }
    spec = job["spec"]
    assert spec["runtimeRef"] == {"name": "torch-distributed", "kind": "ClusterTrainingRuntime"}
    assert spec["activeDeadlineSeconds"] == 72 * 3600
    trainer = spec["trainer"]
    assert trainer["image"] == f"hub/cuda@{DIGEST}"
    assert trainer["numNodes"] == 4
    asked = {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2"}
    assert trainer["resourcesPerNode"] == {"requests": asked, "limits": asked}
    assert trainer["command"] + trainer["args"] == ["python", "-m", "pipelines.node", "--stage", "train"]
    environment = {one["name"]: one["value"] for one in trainer["env"]}
    assert environment["HYMUNET_GPUS"] == "2"
    assert environment["HYMUNET_DVC_REMOTE"] == "s3://bucket/dvc"
    assert environment["HYMUNET_CHECKPOINTS"] == "s3://bucket/checkpoints"
    assert environment["OMP_NUM_THREADS"] == "8"
    [patch] = spec["runtimePatches"]
    [job_patch] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert job_patch["name"] == "node"
    template = job_patch["template"]["spec"]["template"]
    assert template["metadata"] == {"labels": {"team": "imaging"}, "annotations": {"example.org/cost": "1"}}
    pod = template["spec"]
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"] == ACCELERATOR["tolerations"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["securityContext"] == {
        "runAsUser": 10001,
        "runAsGroup": 0,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    [container] = pod["containers"]
    assert container["name"] == "node"
    assert container["securityContext"] == trainjob.CLOSED
    assert container["env"] == [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": "store", "key": key}}}
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    ]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/work", "/tmp", "/dev/shm", "/mnt/scans"]
    named = {volume["name"]: volume for volume in pod["volumes"]}
    assert [named[mount["name"]] for mount in container["volumeMounts"]] == pod["volumes"]
    assert named["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
    assert pod["volumes"][-1]["persistentVolumeClaim"] == {"claimName": "scans"}


def test_it_waits_for_the_job_that_it_started(api: API, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    api.conditions = ["", "", "Complete", "Complete"]
    assert train_nodes.finished(api.client, "hymunet-0", lambda: start(api, settings), pause=0)
    out = capsys.readouterr().out
    assert "TrainJob hymunet-0 is started" in out
    assert "TrainJob hymunet-0: Complete" in out
    assert (len(api.posted), api.deleted) == (1, [])


def test_a_try_that_takes_over_finds_the_job_and_starts_no_other(api: API, settings: Settings) -> None:
    start(api, settings)
    api.conditions = ["", "Complete", "Complete"]
    assert train_nodes.finished(api.client, "hymunet-0", lambda: pytest.fail("a second job"), pause=0)
    assert len(api.posted) == 1


def test_a_failed_job_is_removed_and_the_next_try_starts_anew(api: API, settings: Settings) -> None:
    start(api, settings)
    api.conditions = ["", "Failed", "Failed"]
    assert not train_nodes.finished(api.client, "hymunet-0", lambda: pytest.fail("a second job"), pause=0)
    assert api.deleted == ["hymunet-0"]
    api.conditions = ["Complete", "Complete"]
    assert train_nodes.finished(api.client, "hymunet-0", lambda: start(api, settings), pause=0)


def test_a_failed_job_of_a_try_that_died_is_removed_before_the_next(api: API, settings: Settings) -> None:
    start(api, settings)
    api.conditions = ["Failed", "Complete", "Complete"]
    assert train_nodes.finished(api.client, "hymunet-0", lambda: start(api, settings), pause=0)
    assert api.deleted == ["hymunet-0"]
    assert len(api.posted) == 2


def test_a_job_that_somebody_removed_is_tried_again(api: API, settings: Settings) -> None:
    assert not train_nodes.finished(api.client, "hymunet-0", lambda: None, pause=0)


def test_a_server_that_does_not_answer_is_worth_another_try(settings: Settings) -> None:
    configuration = kubernetes.client.Configuration(host="http://127.0.0.1:9")
    configuration.retries = 0
    client = TrainerClient(KubernetesBackendConfig(namespace="imaging", client_configuration=configuration))
    with pytest.raises(OSError, match="TrainJob hymunet-0: Failed to get TrainJob"):
        train_nodes.finished(client, "hymunet-0", lambda: None, pause=0)


def test_every_try_of_a_step_has_the_same_jobs_name() -> None:
    assert trainjob.name_of("run-1", "train") == trainjob.name_of("run-1", "train")
    assert trainjob.name_of("run-1", "train") != trainjob.name_of("run-2", "train")


def test_a_log_is_relayed_once_also_where_several_machines_logs_come_one_behind_the_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs = [[], ["b1"], ["a1\na2\n", "b1", "b1"], ["a1", "a2", "a3", "b1", "b1"], ["b1"]]

    class Client:
        def get_job_logs(self, name: str) -> list[str]:
            return logs.pop(0)

    shown = train_nodes.Counter[str]()
    while logs:
        shown = train_nodes._relay(Client(), "hymunet-0", shown)
    assert capsys.readouterr().out.split() == ["|", "b1", "|", "a1", "|", "a2", "|", "b1", "|", "a3"]
