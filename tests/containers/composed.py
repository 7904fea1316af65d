"""compose.yaml in an engine: what it pulls, and how its builds reach packages.

Where no registry can be reached, stand-ins take the names of the images that compose pulls (stand_ins/Dockerfile).
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.containers.stack import ROOT, WHEELS, build_options, docker
from tests.support.servers import answers

COMPOSE = "infra/docker/compose.yaml"
FROM_WHEELS = "tests/containers/stand_ins/build.yaml"
STORES = ("http://127.0.0.1:5000", "http://127.0.0.1:8333")


def engine() -> str:
    """A docker command with compose; the test is skipped without one, or where its addresses are taken."""
    command = docker()
    if subprocess.run([command, "compose", "version"], capture_output=True).returncode:
        pytest.skip("the container engine's client has no compose plugin (version 2)")
    if any(answers(address) for address in STORES):
        pytest.skip(f"something listens already on one of compose.yaml's addresses, {' and '.join(STORES)}")
    return command


def environment_of(command: str) -> dict[str, str]:
    """Of compose: its files, those of this machine's builds among them."""
    wheels = any(WHEELS in option for option in build_options(command))
    return {"DOCKER_BUILDKIT": "1", "COMPOSE_FILE": f"{COMPOSE}:{FROM_WHEELS}" if wheels else COMPOSE}


def image(service: str, project: Path = ROOT) -> str:
    """Of a service that compose pulls."""
    return YAML(typ="safe", pure=True).load(project / COMPOSE)["services"][service]["image"]


@contextmanager
def pulled(command: str, project: Path) -> Iterator[None]:
    """What compose pulls, from the registry or as stand-ins, which do not outlive the tests."""
    made = []
    for target in ("postgres", "s3"):
        name = image(target, project)
        here = subprocess.run([command, "image", "inspect", name], capture_output=True).returncode == 0
        if here or subprocess.run([command, "pull", "-q", name], capture_output=True).returncode == 0:
            continue
        print(f"{name} cannot be pulled: a stand-in takes its place")
        dockerfile = "tests/containers/stand_ins/Dockerfile"
        build = [command, "build", "--network", "host", "-f", dockerfile, "--target", target, "-t", name, "."]
        subprocess.run(build, cwd=project, env={**os.environ, "DOCKER_BUILDKIT": "1"}, check=True)
        made.append(name)
    yield
    for name in made:
        subprocess.run([command, "rmi", name], check=True, capture_output=True)
