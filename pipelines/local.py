"""Runs the compiled pipeline on this machine: the same YAML, the same images, in containers, with no cluster.

kfp walks the graph (exit handler, conditions, retries); the containers are ours. kfp's own runner removes a
container as it ends and takes one that it cannot find any more for a success; it also ignores what the YAML says of
secrets and volumes.
"""

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from kfp import components, local
from kfp.local import docker_task_handler, placeholder_utils, status
from kfp.local.orchestrator import task_executor
from kfp.local.orchestrator.enhanced_dag_orchestrator import ConditionEvaluator
from ruamel.yaml import YAML

from hymunet.processors import thread_variables, threads_wanted
from pipelines import conditions


class Containers:
    """What the pipeline's YAML says of each container, and the engine that runs them."""

    def __init__(self, package: Path) -> None:
        import docker

        spec, platform = YAML(typ="safe", pure=True).load_all(package)
        self.executors = spec["deploymentSpec"]["executors"]
        self.kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        self.engine = docker.from_env()

    def run(self, label: str, image: str, command: list[str], root: str, environment: dict[str, str]) -> int:
        """Runs one container to its end, its log on our standard output; returns its exit code."""
        options, started = self.options(label, environment), time.monotonic()
        container = self.engine.containers.create(
            image, command, volumes={root: {"bind": root, "mode": "rw"}}, network_mode="host", **options
        )
        try:
            container.start()
            for line in container.logs(stream=True, follow=True):
                sys.stdout.write(line.decode(errors="replace"))
            code = container.wait()["StatusCode"]
        finally:
            container.remove(force=True, v=True)
        print(f"{label}: exit code {code} after {time.monotonic() - started:.1f} s in its container", flush=True)
        return code

    def options(self, label: str, environment: dict[str, str]) -> dict[str, Any]:
        """Pod settings as engine settings: user, read-only root, scratch volumes, secrets from our own environment."""
        import docker

        pod = self.kubernetes.get(label, {})
        context = pod.get("securityContext", {})
        mounts = [
            docker.types.Mount(mount["mountPath"], None, type="volume")
            for mount in pod.get("emptyDirMounts", [])
            if mount.get("medium") != "Memory"
        ]
        shared = [mount for mount in pod.get("emptyDirMounts", []) if mount["mountPath"] == "/dev/shm"]
        secrets = {pair["envVar"] for secret in pod.get("secretAsEnv", []) for pair in secret["keyToEnv"]}
        if missing := sorted(secrets - set(os.environ)):
            raise ValueError(f"the pipeline takes {', '.join(missing)} from a secret: set it in the environment")
        passed = {name: os.environ[name] for name in sorted(secrets)}
        wanted = int(environment.get("OMP_NUM_THREADS", threads_wanted()))  # of a pod, on a node that may be larger
        accelerator = self.executors[label]["container"].get("resources", {}).get("accelerator")
        return {
            "environment": environment | passed | thread_variables(min(wanted, threads_wanted())),
            "user": f"{context.get('runAsUser', 0)}:{context.get('runAsGroup', 0)}",
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "mounts": mounts,
            "shm_size": shared[0]["sizeLimit"].rstrip("i") if shared else None,
            "device_requests": [
                docker.types.DeviceRequest(count=int(accelerator["resourceCount"]), capabilities=[["gpu"]])
            ]
            if accelerator
            else None,
        }


def handler(containers: Containers) -> type:
    """kfp's task handler, with our containers in place of its own."""

    class Handler(docker_task_handler.DockerTaskHandler):
        def run(self) -> status.Status:
            label = executor_label(containers.executors, self.full_command)
            code = containers.run(label, self.image, self.full_command, self.pipeline_root, self.env_vars)
            if code == 0 and (missing := unwritten(self.full_command)):
                print(f"{label}: ended well but did not write {missing}", file=sys.stderr)
                return status.Status.FAILURE
            return status.Status.SUCCESS if code == 0 else status.Status.FAILURE

    return Handler


def executor_label(executors: dict[str, Any], command: list[str]) -> str:
    """Which executor of the YAML a command with its placeholders filled in belongs to: the one that starts alike."""

    def fixed(label: str) -> list[str]:
        container = executors[label]["container"]
        parts = [*container["command"], *container.get("args", [])[:2]]
        return list(takewhile(lambda part: "{{" not in part, parts))

    return next(label for label in executors if command[: len(fixed(label))] == fixed(label))


def unwritten(command: list[str]) -> str | None:
    """The first output that the command was asked for and that is not there."""
    if "--executor-input" not in command:
        return None
    outputs = json.loads(command[command.index("--executor-input") + 1])["outputs"]
    files = [entry["outputFile"] for entry in outputs.get("parameters", {}).values()]
    files += [entry["artifacts"][0]["uri"] for entry in outputs.get("artifacts", {}).values()]
    return next((file for file in files if not Path(file).exists()), None)


@contextmanager
def open_to_containers(root: Path) -> Iterator[None]:
    """Steps run as a user of their own, and write below `root`: only while they do may everyone."""
    root.mkdir(parents=True, exist_ok=True)
    mode = root.stat().st_mode
    root.chmod(0o777)
    try:
        yield
    finally:
        root.chmod(mode & 0o777)


def run_local(package: Path, arguments: dict[str, Any], root: Path, run: str | None = None) -> bool:
    """Runs the pipeline; True when it succeeded. `root`: folder for Kubeflow's artifacts. `run`: the run's id."""
    run = run or f"local-{random.SystemRandom().getrandbits(48):012x}"
    containers = Containers(package)
    root = root.resolve()
    with (
        open_to_containers(root),
        mock.patch.object(docker_task_handler, "DockerTaskHandler", handler(containers)),
        mock.patch.object(placeholder_utils, "make_random_id", return_value=run),
        mock.patch.object(ConditionEvaluator, "evaluate_condition", staticmethod(conditions.evaluate)),
        # A cluster's back-off waits for a node or a store to come back; here there is nothing to wait for.
        mock.patch.object(task_executor, "time", SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, 1)))),
    ):
        local.init(local.DockerRunner(), pipeline_root=str(root), raise_on_error=True)
        try:
            components.load_component_from_file(str(package))(**arguments)
        except RuntimeError as error:
            print(f"run {run}: {error}", file=sys.stderr)
            return False
    print(f"run {run}: succeeded")
    return True
