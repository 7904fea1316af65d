"""The TrainJob of a training over several machines, as Kubeflow Trainer (trainer.kubeflow.org/v1alpha1) takes it.

Its pods are those that a single training would have: same image, user, secrets, volumes, queue and nodes. Unlike a
step's pod a TrainJob's can be told of a read-only root and no capabilities, and is.
"""

import hashlib
import os
from typing import Any

from components.needs import Needs
from hymunet.processors import thread_variables
from pipelines.settings import Accelerator, Settings

CONTAINER = "node"  # as the runtime torch-distributed names it, and its job
ACCOUNT_ID = 10001  # the images' user
WORKSPACE = "/work"
CLOSED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def name_of(run: str, stage: str) -> str:
    """The same for every try of a run's step, so that one that takes over finds what another began."""
    return f"hymunet-{hashlib.sha256(f'{run} {stage}'.encode()).hexdigest()[:12]}"


def environment(settings: Settings, needs: Needs, accelerator: Accelerator) -> dict[str, str]:
    own = {
        "HYMUNET_DVC_REMOTE": settings.dvc_remote,
        "HYMUNET_WORKSPACE": f"{WORKSPACE}/project",
        "HYMUNET_GPUS": str(accelerator.count),
    }
    return dict(sorted({**own, **thread_variables(needs.threads), **settings.environment}.items()))


def trainer(settings: Settings, needs: Needs) -> Any:
    """What the SDK calls a trainer: image, machines, resources of each, environment."""
    from kubeflow.trainer import CustomTrainerContainer

    accelerator = settings.accelerator
    assert accelerator is not None
    return CustomTrainerContainer(
        image=settings.image(needs.image, True),
        num_nodes=accelerator.nodes,
        resources_per_node={"cpu": needs.cpu, "memory": needs.memory, accelerator.type: str(accelerator.count)},
        env=environment(settings, needs, accelerator),
    )


def options(settings: Settings, needs: Needs, name: str, command: list[str]) -> list[Any]:
    """Name, queue, command, deadline, and what the runtime's pods are told beyond it."""
    from kubeflow.trainer.options import common
    from kubeflow.trainer.options import kubernetes as k8s

    accelerator = settings.accelerator
    assert accelerator is not None
    secrets = [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": key}}}
        for secret in settings.secrets
        for key in secret.keys
    ]
    volumes, mounts = places(settings, needs)
    container = k8s.ContainerPatch(
        name=CONTAINER, env=secrets or None, volume_mounts=mounts, security_context=dict(CLOSED)
    )
    pod = k8s.PodSpecPatch(
        volumes=volumes,
        containers=[container],
        image_pull_secrets=[{"name": secret} for secret in settings.pull_secrets] or None,
        security_context={
            "runAsUser": ACCOUNT_ID,
            "runAsGroup": 0,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        node_selector=dict(accelerator.node_selector) or None,
        tolerations=[one.model_dump(exclude_none=True) for one in accelerator.tolerations] or None,
    )
    described = {"labels": settings.labels, "annotations": settings.annotations}
    template = k8s.PodTemplatePatch(
        metadata={key: value for key, value in described.items() if value} or None, spec=pod
    )
    job = k8s.ReplicatedJobPatch(CONTAINER, k8s.JobTemplatePatch(spec=k8s.JobSpecPatch(template)))
    patch = k8s.JobSetTemplatePatch(spec=k8s.JobSetSpecPatch([job]))
    return [
        common.Name(name),
        k8s.Labels(settings.pod_labels),  # Kueue admits the job as a whole
        k8s.TrainerCommand(command[:1]),
        k8s.TrainerArgs(command[1:]),
        k8s.ActiveDeadlineSeconds(int(needs.hours * 3600)),
        k8s.RuntimePatch(k8s.TrainingRuntimeSpecPatch(patch)),
    ]


def places(settings: Settings, needs: Needs) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """A pod's volumes, and where its container sees them."""
    shared = {"medium": "Memory", "sizeLimit": needs.shared_memory}
    scratch = {"workspace": (WORKSPACE, {"sizeLimit": needs.disk}), "tmp": ("/tmp", {"sizeLimit": "2Gi"})}
    scratch["shm"] = ("/dev/shm", shared)
    volumes: list[dict[str, Any]] = [{"name": name, "emptyDir": kind} for name, (_, kind) in scratch.items()]
    mounts = [{"name": name, "mountPath": path} for name, (path, _) in scratch.items()]
    for volume in settings.volumes:
        name = f"claim-{hashlib.sha256(volume.claim.encode()).hexdigest()[:8]}"
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": volume.claim}})
        mounts.append({"name": name, "mountPath": volume.path})
    return volumes, mounts


def client() -> Any:
    """Of the cluster that this pod runs in. ValueError where the SDK is not installed."""
    try:
        from kubeflow.trainer import TrainerClient
    except ModuleNotFoundError:
        raise ValueError(
            "accelerator.nodes > 1 needs Kubeflow's SDK in the image: build it with EXTRAS=…,kubeflow"
        ) from None
    os.environ.setdefault("HOME", "/tmp")
    return TrainerClient()
