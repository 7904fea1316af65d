"""What a shared cluster asks for is on every pod, and settings that cannot hold are refused by name."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

pytest.importorskip("kfp", reason="needs the extra `pipelines`")

from components.train.component import NEEDS as TRAINING
from hymunet.params import read_yaml
from pipelines import settings
from pipelines.local import Containers
from pipelines.most import Most
from pipelines.training import compile_pipeline
from tests.unit.pipelines.test_compile import GPU, cluster

ROOT = Path(__file__).resolve().parents[3]
SHARED = {
    "queue": "imaging",
    "priority": "research",
    "labels": {"team": "imaging"},
    "annotations": {"example.org/cost-centre": "4711 & more"},
    "pull_secrets": ["registry"],
    "volumes": [{"claim": "scans", "path": "/mnt/scans"}],
    "pool": {"node_selector": {"pool": "cpu"}, "tolerations": [{"key": "batch", "operator": "Exists"}]},
}


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("package") / "p.yaml"
    compile_pipeline(cluster(accelerator=GPU, **SHARED), read_yaml(ROOT / "params.yaml"), path)
    _, platform = YAML(typ="safe", pure=True).load_all(path)
    return platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_every_pod_says_who_it_is_of_and_where_it_waits(pods: dict[str, Any]) -> None:
    assert len(pods) == 10
    for label, pod in pods.items():
        assert pod["podMetadata"] == {
            "labels": {
                "team": "imaging",
                "kueue.x-k8s.io/queue-name": "imaging",
                "kueue.x-k8s.io/priority-class": "research",
            },
            "annotations": {"example.org/cost-centre": "4711 & more"},
        }, label
        assert [one["secretName"] for one in pod["imagePullSecret"]] == ["registry"], label
        assert [(one["constant"], one["mountPath"]) for one in pod["pvcMount"]] == [("scans", "/mnt/scans")], label
        on_gpu = label == "exec-train"
        assert pod["nodeSelector"]["labels"] == {"pool": "spot-gpu" if on_gpu else "cpu"}, label
        assert [one["key"] for one in pod["tolerations"]] == ["nvidia.com/gpu" if on_gpu else "batch"], label


def test_what_kubeflow_has_no_field_for_is_as_it_was() -> None:
    """When kfp learns of one, pipelines/settings.py has something to take back."""
    from kfp.kubernetes import kubernetes_executor_config_pb2

    fields = {field.name for field in kubernetes_executor_config_pb2.KubernetesExecutorConfig.DESCRIPTOR.fields}
    assert not {name for name in fields if "priority" in name or "service_account" in name or "host" in name}


def test_a_claim_of_a_cluster_is_none_of_run_local(pods: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("docker")
    containers = object.__new__(Containers)
    containers.root, containers.kubernetes = str(tmp_path), pods
    with pytest.raises(ValueError, match="volumes: scans: a claim of a cluster; run-local has none"):
        containers.options("exec-train", {})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"queue": "Imaging"}, r"queue = 'Imaging' is no Kubernetes name"),
        ({"priority": "high"}, "priority 'high' orders a queue of Kueue's, and queue is not set"),
        ({"labels": {"team": "a b"}}, "labels = team: 'a b' is no label's value"),
        ({"labels": {"team": "x" * 64}}, "labels = team: .*is no label's value"),
        ({"labels": {"-team": "a"}}, "labels = key '-team': expected name or domain/name"),
        ({"labels": {"kueue.x-k8s.io/queue-name": "a"}}, "belongs to kueue.x-k8s.io, .*; set `queue` or `priority`"),
        ({"annotations": {"pipelines.kubeflow.org/v2": "a"}}, "belongs to pipelines.kubeflow.org"),
        ({"pull_secrets": ["a_b"]}, "'a_b' is no Kubernetes name"),
        ({"service_account": ""}, "'' is no Kubernetes name"),
        ({"volumes": [{"claim": "a", "path": "mnt"}]}, "'mnt': expected an absolute path"),
        ({"volumes": [{"claim": "a", "path": "/"}]}, "'/': expected an absolute path"),
        ({"volumes": [{"claim": "a", "path": "/work/x"}]}, "steps need /work for themselves"),
        ({"volumes": [{"claim": "a", "path": "/mnt/../app"}]}, "expected an absolute path"),
        (
            {"volumes": [{"claim": "a", "path": "/m"}, {"claim": "b", "path": "/m"}]},
            "volumes, path: '/m' is there twice",
        ),
        (
            {"secrets": [{"name": "a", "keys": ["K"]}, {"name": "b", "keys": ["K"]}]},
            "keys of secrets: 'K' is there twice",
        ),
        ({"environment": {"A": "1"}, "secrets": [{"name": "a", "keys": ["A"]}]}, "A is in environment and in a secret"),
        (
            {"environment": {"HYMUNET_COMPILE_CACHE": "s3://b/code"}, "secrets": [{"name": "a", "keys": ["K"]}]},
            "HYMUNET_COMPILE_CACHE = 's3://b/code': .* signed; name a secret with the key HYMUNET_COMPILE_CACHE_KEY",
        ),
        ({"pool": {"node_selector": {"a b": "c"}}}, "key 'a b': expected name or domain/name"),
        ({"most": {"cpu": "four"}}, "most.cpu = 'four': expected processors, as 4 or 500m"),
        ({"most": {"cpu": 0}}, "most.cpu = '0': expected processors"),
        ({"most": {"memory": "12GB"}}, "most.memory = '12GB': expected Mi, Gi or Ti, as 12Gi"),
        ({"most": {"disk": 12}}, "most.disk = '12': expected Mi, Gi or Ti"),
        ({"most": {"gpu": 1}}, "most.gpu: unknown key"),
        # What Kubernetes would refuse when a run is under way.
        ({"images": {"cpu": "", "data": "d"}}, "images.cpu = '' is no image's name; name it by its digest"),
        ({"images": {"cpu": "c", "data": "d "}}, "images.data = 'd ' is no image's name"),
        ({"environment": {"MLFLOW URI": "a"}}, "environment.MLFLOW URI = 'MLFLOW URI' is no variable's name"),
        ({"environment": {"A=B": "a"}}, "'A=B' is no variable's name"),
        ({"environment": {"": "a"}}, "'' is no variable's name"),
        ({"environment": {"1A": "a"}}, "'1A' is no variable's name"),
        ({"secrets": [{"name": "a", "keys": ["A B"]}]}, "secrets.0.keys.0 = 'A B' is no variable's name"),
        ({"secrets": [{"name": "a", "keys": []}]}, "secrets.0.keys = .*at least 1 item"),
        ({"queue": "q" * 64}, "queue = '.*' is written into a label, which holds at most 63"),
        ({"queue": "q", "priority": "p" * 64}, "priority = '.*' is written into a label"),
        ({"accelerator": {"count": 1, "type": "nvidia gpu"}}, "accelerator.type = 'nvidia gpu' is no device"),
        (
            {"accelerator": {"count": 1, "type": "nvidia.com/g pu"}},
            "accelerator.type = key 'nvidia.com/g pu': expected",
        ),
        (
            {"pool": {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}},
            "value 'b' with operator Exists",
        ),
        ({"volumes": [{"claim": "a", "path": "/mnt:x"}]}, "'/mnt:x': Kubernetes takes no place with a colon"),
        (
            {"volumes": [{"claim": "a", "path": "/m"}, {"claim": "b", "path": "/m/"}]},
            "volumes, path: '/m' is there twice",
        ),
        # What every pod would be given to no purpose, or to another than its author's.
        ({"dvc_remote": ""}, "dvc_remote = '': names no place; expected s3://bucket/prefix"),
        ({"dvc_remote": "s3://"}, "dvc_remote = 's3://': names no place"),
        ({"environment": {"HYMUNET_DVC_REMOTE": "s3://b/e"}}, "environment.HYMUNET_DVC_REMOTE is set by the pipeline"),
        # What YAML takes for something else than a text.
        ({"environment": {"A": 5000}}, "environment.A = 5000: .*string; write it in quotes"),
        ({"environment": {"A": True}}, "environment.A = True: .*string; write it in quotes"),
        ({"labels": {"a": 4711}}, "labels.a = 4711: .*string; write it in quotes"),
        ({"environment": {"A": datetime.date(2026, 3, 1)}}, "environment.A = .*string; write it in quotes"),
    ],
)
def test_settings_that_cannot_hold_are_refused(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = {"images": {"cpu": "c", "data": "d"}, "dvc_remote": "s3://b/d", **changed}
    with (tmp_path / "settings.yaml").open("w") as file:
        YAML().dump(content, file)
    with pytest.raises(ValueError, match=message):
        settings.load(tmp_path / "settings.yaml")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (
            {"environment": {"MLFLOW_TRACKING_URI": "https://" + "me:PASS@mlflow.example"}},
            "environment.MLFLOW_TRACKING_URI",
        ),
        ({"environment": {"HTTPS_PROXY": "http://" + "me:PASS@proxy:3128"}}, "environment.HTTPS_PROXY"),
        ({"environment": {"HOOK": "https://example.org/hook?t=PASS"}}, "environment.HOOK"),
        ({"environment": {"HTTP_PROXY": "me:PASS@proxy:3128"}}, "environment.HTTP_PROXY"),
        ({"environment": {"UV_INDEX": "own=https://" + "me:PASS@pypi.example/simple"}}, "environment.UV_INDEX"),
        ({"environment": {"BROKERS": "redis://a/0,redis://" + ":PASS@b/0"}}, "environment.BROKERS"),
        ({"dvc_remote": "https://" + "me:PASS@host/dvc"}, "dvc_remote"),
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_repeated(
    changed: dict[str, Any], named: str, tmp_path: Path
) -> None:
    content = {"images": {"cpu": "c", "data": "d"}, "dvc_remote": "s3://b/d", **changed}
    with (tmp_path / "settings.yaml").open("w") as file:
        YAML().dump(content, file)
    with pytest.raises(ValueError, match=f"{named} is an address with a user, a password or a query") as caught:
        settings.load(tmp_path / "settings.yaml")
    assert "PASS" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"annotations": {"team": "https://" + "me:PASS@wiki.example"}}, "annotations.team looks like a secret"),
        ({"annotations": {"example.org/token": "PASS"}}, "annotations.example.org/token looks like a secret"),
        (
            {"images": {"cpu": "me:" + "PASS@r.example/x", "data": "d"}},
            "images.cpu = with :// or a user it is no image",
        ),
        (
            {"images": {"cpu": "https://" + "me:PASS@r/x", "data": "d"}},
            "images.cpu = with :// or a user it is no image",
        ),
        ({"secrets": [{"name": "a", "keys": ["HYMUNET_DVC_REMOTE"]}]}, "secrets.HYMUNET_DVC_REMOTE is set by the pip"),
    ],
)
def test_what_everybody_can_read_holds_no_secret(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = {"images": {"cpu": "c", "data": "d"}, "dvc_remote": "s3://b/d", **changed}
    with (tmp_path / "settings.yaml").open("w") as file:
        YAML().dump(content, file)
    with pytest.raises(ValueError, match=message) as caught:
        settings.load(tmp_path / "settings.yaml")
    assert "PASS" not in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"environment": {"IMAGE": "registry.example:5000/x:1.0@sha256:" + "0" * 64, "MAIL": "me@host", "T": "12:30"}},
        {"annotations": {"runbook": "https://wiki.example/?page=7", "owner": "imaging@hospital.example"}},
        {"images": {"cpu": "registry.example:5000/x:1.0@sha256:" + "0" * 64, "data": "sha256:" + "0" * 64}},
    ],
)
def test_what_only_looks_like_an_address_is_taken(changed: dict[str, Any], tmp_path: Path) -> None:
    content = {"images": {"cpu": "c", "data": "d"}, "dvc_remote": "s3://b/d", **changed}
    with (tmp_path / "settings.yaml").open("w") as file:
        YAML().dump(content, file)
    settings.load(tmp_path / "settings.yaml")


@pytest.mark.parametrize("content", ["", "- a\n", "hello\n"])
def test_a_file_of_another_kind_is_told_so(content: str, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"settings\.yaml: expected keys with values, found"):
        settings.load(tmp_path / "settings.yaml")


def test_an_image_named_on_the_command_line_is_checked_too() -> None:
    """`--image cpu=$DIGEST` with a variable that is not set."""
    with pytest.raises(ValueError, match="^--image cpu = '' is no image's name; name it by its digest"):
        cluster().with_images({"cpu": ""})


def test_no_pod_asks_for_more_than_the_settings_let_it(tmp_path: Path) -> None:
    compile_pipeline(cluster(most={"cpu": "2", "memory": "6Gi"}), read_yaml(ROOT / "params.yaml"), tmp_path / "p.yaml")
    pipeline, platform = YAML(typ="safe", pure=True).load_all(tmp_path / "p.yaml")
    executors = pipeline["deploymentSpec"]["executors"]
    asked = {name: one["container"]["resources"] for name, one in executors.items()}
    for name, one in asked.items():
        assert float(one["cpuLimit"]) <= 2.0, name
        assert float(one["memoryLimit"]) <= 6 * 2**30, name
    assert (asked["exec-train"]["cpuRequest"], asked["exec-split"]["cpuRequest"]) == (2.0, 2.0)
    assert asked["exec-download"]["cpuRequest"] == 1.0, "what asks for less is left alone"
    environment = {one["name"]: one["value"] for one in executors["exec-train"]["container"]["env"]}
    assert environment["OMP_NUM_THREADS"] == "2"
    mounts = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]["emptyDirMounts"]
    assert {one["mountPath"]: one["sizeLimit"] for one in mounts}["/dev/shm"] == "6Gi"


@pytest.mark.parametrize(
    ("most", "wanted"),
    [
        ({}, ("8", "32Gi", "30Gi", "8Gi")),
        ({"cpu": 16, "memory": "1Ti", "disk": "31Gi"}, ("8", "32Gi", "30Gi", "8Gi")),
        ({"cpu": "500m"}, ("500m", "32Gi", "30Gi", "8Gi")),
        ({"memory": "4000Mi"}, ("8", "4000Mi", "30Gi", "4000Mi")),
        ({"cpu": 1.5, "disk": "900Mi"}, ("1.5", "32Gi", "900Mi", "8Gi")),
    ],
)
def test_needs_are_lowered_and_never_raised(most: dict[str, Any], wanted: tuple[str, ...]) -> None:
    found = Most(**most).of(TRAINING)
    assert (found.cpu, found.memory, found.disk, found.shared_memory) == wanted
    assert found.threads == max(1, int(float(wanted[0].removesuffix("m")) / (1000 if "m" in wanted[0] else 1)))


def test_the_examples_in_the_settings_file_hold(tmp_path: Path) -> None:
    """Every commented key of infra/kubeflow/settings.yaml, taken at its word."""
    lines = (ROOT / "infra/kubeflow/settings.yaml").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("# accelerator:"))
    opened = [line if "`" in line else line.removeprefix("# ") for line in lines[start:]]
    text = "\n".join([*lines[:start], *opened]).replace("accelerator: null", "accelerator: hymunet:cuda")
    (tmp_path / "settings.yaml").write_text(text)
    found = settings.load(tmp_path / "settings.yaml")
    assert (found.queue, found.priority, found.service_account) == ("imaging", "research", "hymunet")
    assert found.accelerator is not None
    assert found.volumes[0].path == "/mnt/scans"
    found.check()
