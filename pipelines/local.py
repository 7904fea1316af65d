"""Runs the compiled pipeline on this machine: the same YAML, the same images, in containers, with no cluster.

pipelines.graph walks it; here is how a container is run: as the YAML's pod settings say, kept until its exit code is
read, and removed then. An engine told to remove it by itself may forget it first. A run that is told to stop takes its
containers with it: they are the engine's, and would compute on, as they do after a run that was killed. Each bears its
run's name, so that the next run in the same folder ends them before it computes beside them.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from hymunet.addresses import said
from hymunet.processors import thread_variables, threads_wanted
from pipelines.graph import Graph
from pipelines.records import require_name
from pipelines.run_folder import ended, goes_on, held, open_to_containers

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ROOT, RUN, STEP = "hymunet.root", "hymunet.run", "hymunet.step"  # a container's labels
GRACE = 30  # seconds from SIGTERM to SIGKILL, as a pod has them: a training saves a checkpoint meanwhile


class Stopped(Exception):
    """The run was told to stop, by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Containers:
    """The engine, and what the pipeline's YAML says of each container. `root`: the folder that they all see."""

    def __init__(self, root: Path, run: str, executors: dict[str, Any], kubernetes: dict[str, Any]) -> None:
        import docker

        self.root, self.run_id, self.executors, self.kubernetes = str(root), run, executors, kubernetes
        self.live: dict[str, Any] = {}
        self.stopped: Stopped | None = None
        try:
            self.engine = docker.from_env()
        except docker.errors.DockerException as error:
            raise ValueError(f"no container engine answers ({said(error)}); start Docker, or set DOCKER_HOST") from None

    def run(self, label: str, image: str, command: list[str], environment: dict[str, str]) -> int:
        """Runs one container to its end, its log on our standard output; returns its exit code."""
        options, started = self.options(label, environment), time.monotonic()
        labels = {ROOT: self.root, RUN: self.run_id, STEP: label.removeprefix("exec-")}
        volumes = {self.root: {"bind": self.root, "mode": "rw"}}
        container = self.engine.containers.create(
            image, command, volumes=volumes, network_mode="host", labels=labels, **options
        )
        self.live[container.id] = container
        try:
            if self.stopped:
                raise self.stopped
            container.start()
            for line in container.logs(stream=True, follow=True):
                sys.stdout.write(line.decode(errors="replace"))
            code = container.wait()["StatusCode"]
        except Exception as error:
            raise self.stopped or error from None
        finally:
            self._remove(container)
        if self.stopped:
            raise self.stopped
        print(f"{label}: exit code {code} after {time.monotonic() - started:.1f} s in its container", flush=True)
        return code

    def stop(self, why: Stopped) -> None:
        """Ends what runs, and lets nothing begin any more: whoever waits for a container is told why."""
        self.stopped = why
        if live := list(self.live.values()):
            print(f"stopping; what runs has {GRACE} s to save what it has", file=sys.stderr, flush=True)
            self._end_all(live)

    def end_those_left(self) -> None:
        """Ends the containers of a run in this folder that was killed: nobody waits for them."""
        there = self.engine.containers.list(all=True, filters={"label": f"{ROOT}={self.root}"}, ignore_removed=True)
        left = [container for container in there if not goes_on(Path(self.root), _run_of(container))]
        for run, own in groupby(sorted(left, key=_run_of), _run_of):
            steps = ", ".join(f"{container.labels[STEP]} (container {container.short_id})" for container in own)
            line = f"run {run} was killed, and {steps} went on; stopped now, with {GRACE} s to save what is there"
            print(line, file=sys.stderr, flush=True)
        if left:
            self._end_all(left)
        for run in {_run_of(container) for container in left}:
            ended(Path(self.root), run)

    def _end_all(self, containers: list[Any]) -> None:
        with ThreadPoolExecutor(len(containers)) as at_once:
            list(at_once.map(self._end, containers))

    def _end(self, container: Any) -> None:
        with _unless_gone():
            container.stop(timeout=GRACE)
        self._remove(container)

    def _remove(self, container: Any) -> None:
        with _unless_gone():
            container.remove(force=True, v=True)
        self.live.pop(container.id, None)

    def require_images(self) -> None:
        """ValueError for an image that is not here: before the first step, and not when its own turn comes."""
        import docker

        for image in dict.fromkeys(one["container"]["image"] for one in self.executors.values()):
            try:
                self.engine.images.get(image)
            except docker.errors.ImageNotFound:
                raise ValueError(
                    f"the engine has no image {image}; build it (docs/kubeflow.md), docker pull it, or name another in "
                    "the settings or with --image"
                ) from None

    def options(self, label: str, environment: dict[str, str]) -> dict[str, Any]:
        """Pod settings as engine settings: user, read-only root, scratch volumes, secrets from our own environment."""
        import docker

        pod = self.kubernetes.get(label, {})
        if claims := [mount.get("constant") or mount["mountPath"] for mount in pod.get("pvcMount", [])]:
            raise ValueError(f"volumes: {', '.join(claims)}: a claim of a cluster; run-local has none, remove it here")
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


def _run_of(container: Any) -> str:
    return str(container.labels[RUN])


@contextmanager
def _unless_gone() -> Iterator[None]:
    """A container that is removed already, or is being removed, needs nothing more."""
    import docker

    try:
        yield
    except docker.errors.APIError as error:
        if error.status_code not in (404, 409):
            raise


@contextmanager
def told_to_stop(stop: Callable[[Stopped], None]) -> Iterator[None]:
    """A signal that ends programs (Ctrl-C, a service's stop, a terminal that is closed) stops the run first."""

    def told(number: int, _: Any) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, told) for number in STOPS if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    except Stopped as why:
        for number in before:
            signal.signal(number, signal.SIG_IGN)  # once is enough, until the last container is gone
        stop(why)
        raise
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def run_local(package: Path, arguments: dict[str, Any], root: Path, run: str | None = None) -> bool:
    """Runs the pipeline; True when it succeeded. `root`: folder for Kubeflow's artifacts. `run`: the run's id.

    Raises Stopped on a signal, when none of its containers is left.
    """
    run = run or f"local-{random.SystemRandom().getrandbits(48):012x}"
    require_name(run)
    root = root.resolve()
    graph = Graph(package)
    containers = Containers(root, run, graph.executors, graph.kubernetes)
    containers.require_images()

    def walk() -> bool:
        containers.end_those_left()
        return graph.run(arguments, root, run, containers.run)

    # In a thread, so that a signal finds this one waiting, and not amid a talk with the engine.
    with (
        open_to_containers(root),
        held(root, run),
        ThreadPoolExecutor(1) as walker,
        told_to_stop(containers.stop),
    ):
        succeeded = walker.submit(walk).result()
    print(f"run {run}: {'succeeded' if succeeded else 'failed'}", file=sys.stdout if succeeded else sys.stderr)
    return succeeded
