"""Pods of rendered manifests, played in a container engine: image, command, user, rights, limits, volumes, environment.

A network of the engine's stands for the cluster's, with the services' names. What is not played: scheduling, probes in
time, network policies, a volume's class.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.manifests import Manifest, name_of, pods

NAMESPACE = "hymunet-registry"


@dataclass
class Engine:
    """found: everything rendered. secrets: name -> its entries, which no manifest holds. folder: for config maps."""

    command: str
    found: list[Manifest]
    secrets: dict[str, dict[str, str]]
    folder: Path
    network: str = "hymunet-pods"
    volumes: set[str] = field(default_factory=set)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([self.command, *arguments], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 or not check, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
        return done

    def play(self, name: str, *command: str, detach: bool = False) -> subprocess.CompletedProcess[str]:
        """The pod of `Deployment/mlflow` and the like; command: in place of the manifest's."""
        pod = dict(pods(self.found))[name]
        [container] = pod["containers"]
        own = name.partition("/")[2]
        line = ["run", *(["--detach"] if detach else ["--rm"]), "--name", own, "--network", self.network]
        line += ["--network-alias", f"{own}.{NAMESPACE}.svc", *self._rights(pod, container)]
        line += [word for pair in self._environment(container) for word in ("--env", pair)]
        line += self._mounts(own, pod, container)
        run = list(command) or container.get("command", [])
        entry = ["--entrypoint", run[0]] if run else []
        return self.run(*line, *entry, container["image"], *run[1:], check=detach)

    def stop(self, name: str) -> None:
        self.run("rm", "--force", name)

    def state(self, name: str) -> dict[str, Any]:
        return json.loads(self.run("inspect", "--format", "{{json .State}}", name).stdout)

    def address(self, name: str) -> str:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self.run("inspect", "--format", form, name).stdout.strip()

    def _rights(self, pod: Manifest, container: Manifest) -> list[str]:
        told, own = pod["securityContext"], container["securityContext"]
        line = ["--user", f"{told['runAsUser']}:{told['runAsGroup']}"]
        line += ["--group-add", str(told["fsGroup"])] if "fsGroup" in told else []
        line += ["--read-only"] if own["readOnlyRootFilesystem"] else []
        line += [word for right in own["capabilities"]["drop"] for word in ("--cap-drop", right)]
        line += ["--security-opt", "no-new-privileges"] if own["allowPrivilegeEscalation"] is False else []
        return [*line, "--memory", re.sub("i$", "", container["resources"]["limits"]["memory"]).lower()]

    def _environment(self, container: Manifest) -> Iterator[str]:
        maps = {one["metadata"]["name"]: one["data"] for one in self.found if one["kind"] == "ConfigMap"}
        for source in container.get("envFrom", []):
            wanted = source.get("configMapRef"), source.get("secretRef")
            content = maps[wanted[0]["name"]] if wanted[0] else self.secrets[wanted[1]["name"]]
            yield from (f"{key}={value}" for key, value in content.items())
        for one in container.get("env", []):
            reference = one.get("valueFrom", {}).get("secretKeyRef")
            yield f"{one['name']}={self.secrets[reference['name']][reference['key']] if reference else one['value']}"

    def _mounts(self, own: str, pod: Manifest, container: Manifest) -> Iterator[str]:
        there = {one["name"]: one for one in pod.get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            volume, path = there.get(mount["name"], {"persistentVolumeClaim": None}), mount["mountPath"]
            if "configMap" in volume:
                yield from ("--volume", f"{self._files(volume['configMap']['name'])}:{path}:ro")
                continue
            name, mode = (f"{own}-{mount['name']}", "0777") if "emptyDir" in volume else (mount["name"], "2775")
            yield from ("--volume", f"{self._volume(name, mode, pod, container['image'])}:{path}:nocopy")

    def _files(self, name: str) -> Path:
        [content] = [one["data"] for one in self.found if name_of(one) == f"ConfigMap/{name}"]
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for file, text in content.items():
            (folder / file).write_text(text, encoding="utf-8")
        return folder

    def _volume(self, name: str, mode: str, pod: Manifest, image: str) -> str:
        """Belongs to root and the pod's fsGroup, as Kubernetes hands it out; an emptyDir is everybody's."""
        volume, group = f"{self.network}-{name}", pod["securityContext"].get("fsGroup", 0)
        if volume not in self.volumes:
            self.run("volume", "create", volume)
            self.volumes.add(volume)
            owned = f"chgrp {group} /v && chmod {mode} /v"
            into = ["--volume", f"{volume}:/v:nocopy", "--entrypoint", "sh"]
            self.run("run", "--rm", "--user", "0", *into, image, "-c", owned)
        return volume


@contextmanager
def playing(engine: Engine, names: list[str]) -> Iterator[Engine]:
    """The network; at the end nothing of it is left. names: of containers."""
    engine.run("network", "create", engine.network)
    try:
        yield engine
    finally:
        for name in names:
            engine.run("rm", "--force", name, check=False)
        for volume in engine.volumes:
            engine.run("volume", "rm", "--force", volume, check=False)
        engine.run("network", "rm", engine.network, check=False)
