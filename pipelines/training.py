"""The training pipeline as Kubeflow runs it: dvc.yaml's stages, a gate after the data checks, an exit handler."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from kfp import compiler, dsl, kubernetes

from components.container import Needs, bridge
from components.download import component as download
from components.evaluate import component as evaluate
from components.prepare import component as prepare
from components.register import component as register
from components.split import component as split
from components.train import component as train
from components.validate import component as validate
from hymunet import params
from hymunet.processors import thread_variables
from pipelines.finish import STEPS
from pipelines.settings import Pool, Settings

NAME = "hymunet-training"
WORKSPACE = "/work"
USER = 10001  # the images' user
RETRY_HOURS = 24  # Kubeflow's own limit is one hour, after which it gives up on a step whatever the retries left


@dsl.container_component
def reject() -> dsl.ContainerSpec:  # type: ignore[no-untyped-def]
    """Fails the run: the data checks said no, and their report, one step back, says why."""
    program = "import sys; sys.exit('the data checks refused the data: see the report of the step validate')"
    return dsl.ContainerSpec(image="hymunet", command=["python", "-c", program])


@dsl.container_component
def finish(parts: str, sets: str, report: dsl.Output[dsl.HTML]) -> dsl.ContainerSpec:  # type: ignore[no-untyped-def]
    """Whatever happened: one page about the run."""
    named = ["--parts", "{{$.inputs.parameters['parts']}}", "--sets", "{{$.inputs.parameters['sets']}}"]
    return dsl.ContainerSpec(
        image="hymunet",
        command=["python", "-m", "pipelines.finish"],
        args=["--run", dsl.PIPELINE_JOB_ID_PLACEHOLDER, *named, "--executor-input", "{{$}}"],
    )


@dsl.container_component
def conclude(lock_before: dsl.Input[dsl.Artifact]) -> dsl.ContainerSpec:  # type: ignore[no-untyped-def]
    """Fails the run where a step failed for good: such a step ends well, so that nobody tries it again."""
    program = ["python", "-m", "pipelines.conclude"]
    return dsl.ContainerSpec(image="hymunet", command=program, args=["--executor-input", "{{$}}"])


@dsl.container_component
def train_nodes(  # type: ignore[no-untyped-def]
    params: str,
    lock_before: dsl.Input[dsl.Artifact],
    lock: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    model: dsl.Output[dsl.Model],
) -> dsl.ContainerSpec:
    """`train` on several machines: makes a TrainJob and waits for it."""
    single = bridge("train", "--model", "artifacts/model")
    return dsl.ContainerSpec(image="hymunet", command=["python", "-m", "pipelines.train_nodes"], args=single.args)


LIGHT = Needs(cpu="500m", memory="1Gi", disk="1Gi", hours=0.5, retries=2)


def define(settings: Settings, content: dict[str, Any]) -> Callable[..., Any]:
    """The pipeline for one cluster; `content`, a whole params.yaml, is the default of its one parameter.

    The parameter is text: as a structure Kubeflow would turn 1 into 1.0, and DVC's keys with it.
    """

    @dsl.pipeline(name=NAME, description="HyM-UNet: from the archives to a registered model. Research use only.")
    def training(params: str = json.dumps(content)) -> None:
        def step(contract: Any, name: str, before: dsl.PipelineTask | None = None) -> dsl.PipelineTask:
            inputs = {"lock_before": before.outputs["lock"]} if before else {}
            return place(getattr(contract, name)(params=params, **inputs), contract.NEEDS, settings)

        with reported(settings, STEPS):
            downloaded = step(download, "download")
            prepared = step(prepare, "prepare", downloaded)
            divided = step(split, "split", prepared)
            checked = step(validate, "validate", divided)
            with dsl.If(checked.outputs["passed"] == "true", name="data-passed"):
                trained = _trained(params, checked, settings) or step(train, "train", checked)
                evaluated = step(evaluate, "evaluate", trained)
                registered = step(register, "register", evaluated)
                place(conclude(lock_before=registered.outputs["lock"]), LIGHT, settings).set_retry(0)
            with dsl.If(checked.outputs["passed"] == "false", name="data-refused"):
                place(reject(), LIGHT, settings).set_retry(0)

    return training


def reported(settings: Settings, parts: list[str], sets: Sequence[str] = ()) -> dsl.ExitHandler:
    """Around a pipeline's steps: at their end, however it came, `finish` tells what became of each of the parts."""
    last = finish(parts=json.dumps(parts), sets=json.dumps(list(sets)))
    return dsl.ExitHandler(place(last, LIGHT, settings), name="steps")


def _trained(params: str, checked: dsl.PipelineTask, settings: Settings) -> dsl.PipelineTask | None:
    """The training on several machines; None where one is enough."""
    if settings.accelerator is None or settings.accelerator.nodes == 1:
        return None
    task = train_nodes(params=params, lock_before=checked.outputs["lock"])
    waits = replace(LIGHT, disk="10Gi", hours=train.NEEDS.hours, retries=train.NEEDS.retries)
    place(task, waits, settings).set_env_variable("HYMUNET_SETTINGS", settings.model_dump_json())
    return task.set_env_variable("HYMUNET_NEEDS", json.dumps(asdict(settings.most.of(train.NEEDS))))


def place(task: dsl.PipelineTask, needs: Needs, settings: Settings) -> dsl.PipelineTask:
    """The task on this cluster: image, resources, stores, secrets, an ordinary user, volumes to write in.

    The images need neither a writable root nor any capability, but kfp-kubernetes has no field that says so.
    """
    needs = settings.most.of(needs)
    accelerator = settings.accelerator if needs.accelerator else None
    task.set_container_image(settings.image(needs.image, needs.accelerator))
    task.set_caching_options(False)  # DVC knows better: by content, across clusters and workstations
    task.set_cpu_request(needs.cpu).set_cpu_limit(needs.cpu)
    task.set_memory_request(needs.memory).set_memory_limit(needs.memory)
    task.set_retry(needs.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration=f"{RETRY_HOURS}h")
    environment = {"HYMUNET_DVC_REMOTE": settings.dvc_remote, "HYMUNET_WORKSPACE": f"{WORKSPACE}/project"}
    environment |= thread_variables(needs.threads)  # libraries count the node's processors, not the pod's
    for name, value in sorted((environment | settings.environment).items()):
        task.set_env_variable(name, value)
    for secret in settings.secrets:
        kubernetes.use_secret_as_env(task, secret.name, {key: key for key in secret.keys})
    kubernetes.empty_dir_mount(task, "workspace", WORKSPACE, size_limit=needs.disk)
    kubernetes.empty_dir_mount(task, "tmp", "/tmp", size_limit="2Gi")
    kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=needs.shared_memory)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=0, run_as_non_root=True)
    kubernetes.set_timeout(task, int(needs.hours * 3600))
    if accelerator:
        task.set_env_variable("HYMUNET_GPUS", str(accelerator.count))  # training starts a rank on each, or says no
        task.set_accelerator_type(accelerator.type).set_accelerator_limit(accelerator.count)
    admit(task, settings, accelerator or settings.pool)
    return task


def admit(task: dsl.PipelineTask, settings: Settings, pool: Pool) -> None:
    """Where the task's pod may go, who counts it, and what it is given to see."""
    for key, value in sorted(pool.node_selector.items()):
        kubernetes.add_node_selector(task, key, value)
    for toleration in pool.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump())
    for key, value in sorted(settings.pod_labels.items()):
        kubernetes.add_pod_label(task, key, value)
    for key, value in sorted(settings.annotations.items()):
        kubernetes.add_pod_annotation(task, key, value)
    if settings.pull_secrets:
        kubernetes.set_image_pull_secrets(task, settings.pull_secrets)
    for volume in settings.volumes:
        kubernetes.mount_pvc(task, pvc_name=volume.claim, mount_path=volume.path)


def compile_pipeline(settings: Settings, content: dict[str, Any], output: Path) -> None:
    """Writes the YAML: same settings and parameters, same bytes.

    ValueError for parameters that no step takes, and for settings that do not fit each other.
    """
    params.check(content)
    settings.check()
    output.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        compiler.Compiler().compile(define(settings, content), str(output))
