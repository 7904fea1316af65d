"""The compiled YAML: same bytes every time, images by content, and on each step what a cluster needs to know."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

pytest.importorskip("kfp", reason="needs the extra `pipelines`")

from components.needs import Needs
from hymunet.params import read_yaml
from hymunet.processors import THREAD_VARIABLES
from pipelines import __main__ as command
from pipelines import parameters, settings
from pipelines.training import compile_pipeline

ROOT = Path(__file__).resolve().parents[3]
DIGEST = "sha256:" + "0" * 64
STEPS = ["download", "prepare", "split", "validate", "train", "evaluate", "register"]
GPU = {
    "count": 2,
    "node_selector": {"pool": "spot-gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}


def cluster(**changed: Any) -> settings.Settings:
    images = {"cpu": f"hub/hymunet@{DIGEST}", "data": f"hub/data@{DIGEST}", "accelerator": f"hub/cuda@{DIGEST}"}
    content = {
        "images": images,
        "dvc_remote": "s3://bucket/dvc",
        "environment": {"HYMUNET_CHECKPOINTS": "s3://bucket/checkpoints"},
        "secrets": [{"name": "store", "keys": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]}],
    }
    return settings.Settings.model_validate(content | changed)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "pipeline.yaml"
    compile_pipeline(cluster(accelerator=GPU), read_yaml(ROOT / "params.yaml"), path)
    return path


@pytest.fixture(scope="module")
def documents(package: Path) -> tuple[dict, dict]:
    pipeline, platform = YAML(typ="safe", pure=True).load_all(package)
    return pipeline, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_another_process_compiles_the_same_bytes(package: Path, tmp_path: Path) -> None:
    program = (
        "from pathlib import Path\n"
        "from tests.unit.pipelines.test_compile import *\n"
        f"compile_pipeline(cluster(accelerator=GPU), read_yaml('params.yaml'), Path({str(tmp_path / 'again.yaml')!r}))"
    )
    subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    )
    assert (tmp_path / "again.yaml").read_bytes() == package.read_bytes()


def test_every_step_retries_for_a_day_and_none_trusts_kubeflows_cache(documents: tuple[dict, dict]) -> None:
    dags = [documents[0]["root"]["dag"], *(c["dag"] for c in documents[0]["components"].values() if "dag" in c)]
    tasks = {name: task for dag in dags for name, task in dag["tasks"].items() if name in STEPS}
    assert sorted(tasks) == sorted(STEPS)
    for name, task in tasks.items():
        assert task["retryPolicy"]["backoffMaxDuration"] == "86400s", name
        assert task["retryPolicy"]["maxRetryCount"] >= 2, name
        assert not task["cachingOptions"].get("enableCache"), name


def test_training_gets_the_accelerator_and_nothing_else_does(documents: tuple[dict, dict]) -> None:
    executors = {label: value["container"] for label, value in documents[0]["deploymentSpec"]["executors"].items()}
    accelerated = {label for label, container in executors.items() if "accelerator" in container.get("resources", {})}
    assert accelerated == {"exec-train"}
    train, pod = executors["exec-train"], documents[1]["exec-train"]
    assert train["image"] == f"hub/cuda@{DIGEST}"
    assert train["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert train["resources"]["accelerator"]["resourceCount"] == "2"
    # The training must see as many, and starts a rank on each: tests/integration/training/test_launch.py.
    assert {"name": "HYMUNET_GPUS", "value": "2"} in train["env"]
    assert pod["nodeSelector"]["labels"] == {"pool": "spot-gpu"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    [shm] = [mount for mount in pod["emptyDirMounts"] if mount["mountPath"] == "/dev/shm"]
    assert (shm["medium"], shm["sizeLimit"]) == ("Memory", "8Gi")


def test_every_container_computes_with_the_processors_that_its_pod_is_limited_to(documents: tuple[dict, dict]) -> None:
    expected = {"download": 1, "prepare": 4, "split": 2, "validate": 1, "train": 8, "evaluate": 4, "register": 1}
    for label, executor in documents[0]["deploymentSpec"]["executors"].items():
        environment = {entry["name"]: entry["value"] for entry in executor["container"]["env"]}
        threads = str(expected.get(label.removeprefix("exec-"), 1))  # finish and reject: half a processor
        assert {name: environment[name] for name in THREAD_VARIABLES} == dict.fromkeys(THREAD_VARIABLES, threads), label


def test_every_container_is_an_ordinary_user_with_scratch_space_and_a_deadline(documents: tuple[dict, dict]) -> None:
    for label, pod in documents[1].items():
        assert pod["securityContext"] == {"runAsUser": "10001", "runAsGroup": "0", "runAsNonRoot": True}, label
        assert {mount["mountPath"] for mount in pod["emptyDirMounts"]} == {"/work", "/tmp", "/dev/shm"}, label
        assert int(pod["activeDeadlineSeconds"]) > 0, label


def test_kubeflow_can_be_told_no_more_of_a_containers_rights() -> None:
    """When kfp learns of a read-only root, docs/kubeflow.md and `place` have something to do."""
    from kfp.kubernetes import kubernetes_executor_config_pb2

    fields = {field.name for field in kubernetes_executor_config_pb2.SecurityContext.DESCRIPTOR.fields}
    assert fields == {"run_as_user", "run_as_group", "run_as_non_root"}


def test_a_failure_for_good_ends_the_run_without_another_try(documents: tuple[dict, dict]) -> None:
    tasks = {
        name: task
        for component in documents[0]["components"].values()
        for name, task in component.get("dag", {}).get("tasks", {}).items()
    }
    assert tasks["conclude"]["dependentTasks"] == ["register"]
    for name in ("conclude", "reject"):
        assert tasks[name].get("retryPolicy", {}).get("maxRetryCount", 0) == 0, name


def test_secrets_come_from_kubernetes_by_name(documents: tuple[dict, dict]) -> None:
    for label, pod in documents[1].items():
        [secret] = pod["secretAsEnv"]
        assert secret["secretName"] == "store", label
        assert [pair["envVar"] for pair in secret["keyToEnv"]] == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], label
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        assert not [
            e["name"] for e in executor["container"].get("env", []) if "SECRET" in e["name"] or "KEY" in e["name"]
        ]


def test_training_waits_for_the_data_checks(documents: tuple[dict, dict]) -> None:
    [body] = [
        c["dag"]["tasks"]
        for c in documents[0]["components"].values()
        if "validate" in c.get("dag", {}).get("tasks", {})
    ]
    gates = {name: task["triggerPolicy"]["condition"] for name, task in body.items() if "triggerPolicy" in task}
    assert sorted(condition.split("== ")[1] for condition in gates.values()) == ["'false'", "'true'"]
    for name in gates:
        assert "validate" in body[name]["dependentTasks"]


def test_without_an_accelerator_training_takes_the_common_image(tmp_path: Path) -> None:
    compile_pipeline(cluster(), read_yaml(ROOT / "params.yaml"), tmp_path / "p.yaml")
    pipeline, _ = YAML(typ="safe", pure=True).load_all(tmp_path / "p.yaml")
    train = pipeline["deploymentSpec"]["executors"]["exec-train"]["container"]
    assert train["image"] == f"hub/hymunet@{DIGEST}"
    assert "accelerator" not in train["resources"]


def test_several_machines_are_a_trainjobs_and_the_step_waits_without_a_gpu(tmp_path: Path) -> None:
    chosen = cluster(accelerator={**GPU, "nodes": 4}, service_account="hymunet")
    compile_pipeline(chosen, read_yaml(ROOT / "params.yaml"), tmp_path / "p.yaml")
    pipeline, platform = YAML(typ="safe", pure=True).load_all(tmp_path / "p.yaml")
    executors = {label: one["container"] for label, one in pipeline["deploymentSpec"]["executors"].items()}
    assert "exec-train" not in executors
    waiting = executors["exec-train-nodes"]
    assert waiting["command"] == ["python", "-m", "pipelines.train_nodes"]
    assert waiting["image"] == f"hub/hymunet@{DIGEST}"
    assert "accelerator" not in waiting["resources"]
    environment = {one["name"]: one["value"] for one in waiting["env"]}
    assert settings.Settings.model_validate_json(environment["HYMUNET_SETTINGS"]) == chosen
    assert Needs(**json.loads(environment["HYMUNET_NEEDS"])).shared_memory == "8Gi"
    pod = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train-nodes"]
    assert int(pod["activeDeadlineSeconds"]) == 72 * 3600


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"accelerator": {**GPU, "nodes": 2}}, "accelerator.nodes = 2, and service_account is not set"),
        ({"images": {"cpu": "c", "data": "d"}}, "accelerator asks for GPUs and images.accelerator is null: .* cuda"),
        ({"environment": {}}, "accelerator, and environment.HYMUNET_CHECKPOINTS = '': a pod's disk ends with the pod"),
        ({"environment": {"HYMUNET_CHECKPOINTS": "/work/checkpoints"}}, "name a place in an object store"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        compile_pipeline(
            cluster(**{"accelerator": GPU, **changed}), read_yaml(ROOT / "params.yaml"), tmp_path / "p.yaml"
        )
    assert not (tmp_path / "p.yaml").exists()


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"dvc_remote": "s3://bucket/dvc", "environment": {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}}, "MLFLOW"),
        ({"environment": {"AWS_ENDPOINT_URL": "http://localhost:8333"}}, "AWS_ENDPOINT_URL"),
        ({"environment": {"AWS_ENDPOINT_URL": "https://[::1]:8333/x"}}, "AWS_ENDPOINT_URL"),
        ({"environment": {"AWS_ENDPOINT_URL": "http://0.0.0.0:8333"}}, "AWS_ENDPOINT_URL"),
        ({"environment": {"MLFLOW_TRACKING_URI": "http://LOCALHOST/x"}}, "MLFLOW_TRACKING_URI"),
        ({"environment": {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}}, "MLFLOW_TRACKING_URI"),
        ({"dvc_remote": "/srv/dvc"}, "dvc_remote"),
        ({"dvc_remote": "file:///srv/dvc"}, "dvc_remote"),
    ],
)
def test_addresses_that_a_pod_would_take_for_itself_are_not_submitted(changed: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}.* = "):
        cluster(**changed).require_reachable_from_a_cluster()


@pytest.mark.parametrize(
    "address", ["http://localhost.example.org:5000", "http://mlflow.mlflow:5000", "http://10.127.0.0.1"]
)
def test_addresses_of_a_cluster_are_taken(address: str) -> None:
    cluster(environment={"MLFLOW_TRACKING_URI": address}).require_reachable_from_a_cluster()


@pytest.mark.parametrize("verb", [["submit"], ["schedule", "--name", "n", "--cron", "0 0 3 * * 1"]])
def test_the_command_submits_no_local_address(verb: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match=r"MLFLOW_TRACKING_URI = 'http://127\.0\.0\.1:5000': to a pod this is the pod"):
        command.main([*verb, "--allow-tags"])


@pytest.mark.parametrize("image", ["hymunet", "hymunet:1.2", "hub:5000/hymunet:latest", "hymunet@sha256:abc"])
def test_a_tag_is_refused(image: str) -> None:
    with pytest.raises(ValueError, match=r"images\.cpu = .* is a tag.*--allow-tags"):
        cluster().with_images({"cpu": image}).require_content_addresses()


def test_a_digest_and_an_image_id_are_taken() -> None:
    cluster().with_images({"cpu": DIGEST}).require_content_addresses()


def test_the_command_refuses_tags_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match="is a tag"):
        command.main(["compile", "--output", str(tmp_path / "p.yaml")])
    assert not (tmp_path / "p.yaml").exists()
    assert command.main(["compile", "--allow-tags", "--output", str(tmp_path / "p.yaml")]) == 0


def test_settings_that_hold_a_secret_or_a_typo_are_refused(tmp_path: Path) -> None:
    text = (ROOT / "infra/kubeflow/settings.yaml").read_text()
    for bad, message in [
        (
            text.replace("environment: #", "environment:\n  AWS_SECRET_ACCESS_KEY: abc #"),
            "AWS_SECRET_ACCESS_KEY looks like a secret",
        ),
        (text + "\nacelerator: {count: 1}\n", "acelerator: unknown key"),
    ]:
        (tmp_path / "settings.yaml").write_text(bad)
        with pytest.raises(ValueError, match=message):
            settings.load(tmp_path / "settings.yaml")


def test_parameters_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    content = parameters.content(Path("params.yaml"), "demo", ["train.epochs=3", "evaluate.threshold=validation"])
    assert (content["data"]["source"], content["train"]["epochs"]) == ("synthetic", 3)
    assert content["evaluate"]["threshold"] == "validation"
    for override, message in [
        ("train.epoch=3", "unknown key train.epoch = 3; did you mean epochs?"),
        ("epochs=3", "expected SECTION.KEY=VALUE"),
        ("train.epochs", "expected KEY=VALUE"),
        ("train.epochs=none", "train.epochs = 'none'"),
    ]:
        with pytest.raises(ValueError, match=message):
            parameters.content(Path("params.yaml"), None, [override])


def test_help_needs_no_kubeflow() -> None:
    program = (
        "import sys; from pipelines import __main__ as m\n"
        "try: m.main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'kfp', 'torch', 'dvc', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
