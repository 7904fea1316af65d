"""`python -m pipelines check` against an API server in miniature, which speaks Kubernetes' own JSON over HTTP."""

import copy
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("kfp", reason="needs the extra `pipelines`")

import kubernetes

from pipelines import check
from pipelines.settings import Settings
from tests.unit.pipelines.test_compile import GPU, cluster

SPACE = "/api/v1/namespaces/imaging"
QUEUES = "/apis/kueue.x-k8s.io/v1beta1/namespaces/imaging/localqueues"
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def node(name: str, gpus: int = 0, taints: list[dict[str, str]] | None = None, **labels: str) -> dict[str, Any]:
    allocatable = {"cpu": "8", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints},
        "status": {"allocatable": allocatable},
    }


WHOLE: dict[str, Any] = {
    SPACE: {"metadata": {"name": "imaging", "labels": {check.RESTRICTED: "baseline"}}},
    f"{SPACE}/secrets/store": {
        "data": {"AWS_ACCESS_KEY_ID": "eA==", "AWS_SECRET_ACCESS_KEY": "eA=="},
        "type": "Opaque",
    },
    f"{SPACE}/secrets/registry": {"type": "kubernetes.io/dockerconfigjson"},
    f"{SPACE}/serviceaccounts/hymunet": {"metadata": {"name": "hymunet"}},
    f"{SPACE}/persistentvolumeclaims/scans": {"metadata": {"name": "scans"}},
    f"{QUEUES}/team": {"status": {"conditions": [{"type": "Active", "status": "True"}]}},
    "/apis/kueue.x-k8s.io/v1beta1/workloadpriorityclasses/research": {"value": 100},
    "/apis/trainer.kubeflow.org/v1alpha1/clustertrainingruntimes/torch-distributed": {"metadata": {"name": "x"}},
    "/api/v1/nodes": {"items": [node("a"), node("b", 2, [TAINT], pool="spot-gpu")]},
}


class API:
    """Answers GET with what it holds, 404 for the rest; a number is a status."""

    def __init__(self, content: dict[str, Any]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = content.get(self.path.partition("?")[0], 404)
                status = found if isinstance(found, int) else 200
                body = json.dumps({"kind": "Status", "code": status} if isinstance(found, int) else found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        configuration = kubernetes.client.Configuration(host=f"http://127.0.0.1:{self.server.server_port}")
        configuration.retries = 0
        self.client = kubernetes.client.ApiClient(configuration)


@pytest.fixture
def content() -> dict[str, Any]:
    return copy.deepcopy(WHOLE)


@pytest.fixture
def api(content: dict[str, Any]) -> Iterator[API]:
    opened = API(content)
    yield opened
    opened.server.shutdown()
    opened.server.server_close()


@pytest.fixture(scope="module")
def settings() -> Settings:
    return cluster(
        accelerator={**GPU, "nodes": 2},
        queue="team",
        priority="research",
        service_account="hymunet",
        pull_secrets=["registry"],
        volumes=[{"claim": "scans", "path": "/mnt/scans"}],
    )


def test_a_cluster_that_has_all_of_it(api: API, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.check_cluster(settings, api.client, "imaging") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert all(line.startswith("ok ") for line in lines)


@pytest.mark.parametrize(
    ("path", "answer", "line", "code"),
    [
        (SPACE, 404, "lacking  namespace imaging: is not there", 1),
        (
            SPACE,
            {"metadata": {"labels": {check.RESTRICTED: "restricted"}}},
            f"lacking  namespace imaging: {check.RESTRICTED}=restricted refuses the pods",
            1,
        ),
        (f"{SPACE}/secrets/store", {"data": {"AWS_ACCESS_KEY_ID": "eA=="}}, "store: has no AWS_SECRET_ACCESS_KEY", 1),
        (f"{SPACE}/secrets/store", 403, "unknown  secret store: you may not look (403)", 3),
        (f"{SPACE}/secrets/registry", {"type": "Opaque"}, "lacking  pull secret registry: is of type Opaque", 1),
        (f"{SPACE}/serviceaccounts/hymunet", 404, "lacking  service account hymunet: is not there", 1),
        (f"{SPACE}/persistentvolumeclaims/scans", 404, "lacking  volume claim scans: is not there", 1),
        (f"{QUEUES}/team", 404, "lacking  queue team: is not there", 1),
        (
            f"{QUEUES}/team",
            {"status": {"conditions": [{"type": "Active", "status": "False", "message": "no ClusterQueue"}]}},
            "lacking  queue team: is not active: no ClusterQueue",
            1,
        ),
        ("/apis/kueue.x-k8s.io/v1beta1/workloadpriorityclasses/research", 404, "lacking  priority research", 1),
        (
            "/apis/trainer.kubeflow.org/v1alpha1/clustertrainingruntimes/torch-distributed",
            404,
            "lacking  Kubeflow Trainer's runtime torch-distributed: is not there",
            1,
        ),
        ("/api/v1/nodes", 403, "unknown  nodes: you may not look (403)", 3),
        ("/api/v1/nodes", 500, "unknown  nodes: the cluster failed (500", 3),
        ("/api/v1/nodes", {"items": [node("a")]}, "training: none has the labels {'pool': 'spot-gpu'}", 1),
        (
            "/api/v1/nodes",
            {"items": [node("a"), node("b", 1, [TAINT], pool="spot-gpu")]},
            "lacking  nodes of the training: none has 2 × nvidia.com/gpu, the most is 1",
            1,
        ),
        (
            "/api/v1/nodes",
            {"items": [node("b", 2, [TAINT], pool="spot-gpu")]},
            "lacking  nodes of the steps: all are tainted: nvidia.com/gpu=present:NoSchedule; name a toleration",
            1,
        ),
    ],
)
def test_what_is_lacking_is_named(
    path: str,
    answer: Any,
    line: str,
    code: int,
    content: dict[str, Any],
    api: API,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content[path] = answer
    assert check.check_cluster(settings, api.client, "imaging") == code
    assert line in capsys.readouterr().out


STEPS = "/apis/networking.k8s.io/v1/namespaces/imaging/networkpolicies/steps"
SERVER = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
WHAT = "the API server in network policy steps"


def policy(cidr: str, *ports: int) -> dict[str, Any]:
    rules: list[dict[str, Any]] = [
        {"to": [{"podSelector": {}}], "ports": [{"port": 6443}]},
        {"to": [{"ipBlock": {"cidr": cidr}}], "ports": [{"protocol": "TCP", "port": port} for port in ports]},
    ]
    return {"metadata": {"name": "steps"}, "spec": {"podSelector": {}, "egress": rules}}


def server(port: int, *addresses: str) -> dict[str, Any]:
    return {
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in addresses],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }


@pytest.mark.parametrize(
    ("steps", "slice_", "line"),
    [
        (policy("172.18.0.2/32", 443, 6443), server(6443, "172.18.0.2"), f"ok       {WHAT}"),
        (policy("10.0.0.0/29", 443), server(443, "10.0.0.2", "10.0.0.3"), f"ok       {WHAT}"),
        (
            policy("10.96.0.1/32", 443, 6443),
            server(6443, "172.18.0.2"),
            f"lacking  {WHAT}: does not let 172.18.0.2 port",
        ),
        (policy("192.168.49.2/32", 443, 6443), server(8443, "192.168.49.2"), "does not let 192.168.49.2 port 8443"),
        (
            policy("10.0.0.2/32", 6443),
            server(6443, "10.0.0.2", "10.0.0.3"),
            "let 10.0.0.3 port 6443 through; docs/kuber",
        ),
        (policy("10.0.0.2/32", 6443), 403, "unknown  the API server's own addresses: you may not look (403)"),
        (404, server(6443, "10.0.0.2"), None),
        (403, server(6443, "10.0.0.2"), None),
    ],
)
def test_the_policy_of_the_steps_names_the_api_server_that_there_is(
    steps: Any,
    slice_: Any,
    line: str | None,
    content: dict[str, Any],
    api: API,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content |= {STEPS: steps, SERVER: slice_}
    code = check.check_cluster(settings, api.client, "imaging")
    said = capsys.readouterr().out
    assert line in said if line else "the API server" not in said
    assert code == (0 if line is None else {"ok": 0, "unknown": 3}.get(line.split()[0], 1))


def test_a_cluster_that_does_not_answer_is_one_line(settings: Settings) -> None:
    configuration = kubernetes.client.Configuration(host="http://127.0.0.1:9")
    configuration.retries = 0
    with pytest.raises(ValueError, match="the cluster does not answer: MaxRetryError; is the kubeconfig right"):
        check.check_cluster(settings, kubernetes.client.ApiClient(configuration), "imaging")


def test_no_kubeconfig_is_one_line(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="no kubeconfig and no pod's own cluster"):
        check.connect(None)
    with pytest.raises(ValueError, match="--context prod: "):
        check.connect("prod")
