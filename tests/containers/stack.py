"""What the container tests stand on: an engine, the real images, and a store, a registry and a database for the
pipeline.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.support.servers import MLflowServer, S3Server

ROOT = Path(__file__).resolve().parents[2]
STEPS = {"download", "prepare", "split", "validate", "train", "evaluate", "register"}
# Registration acts on a registry that may not know the model: it runs always, and finds its version by content.
RESTORED = dict.fromkeys(STEPS, "restored") | {"register": "computed"}
WHEELS = "wheels:local"
# Over the demo profile: every stage really works, in a few seconds each.
TINY = {
    "data.synthetic.images": "40",
    "data.synthetic.size": "64",
    "prepare.image_size": "32",
    "validate.min_images": "20",
    "validate.mask_area": "[0.0, 1.0]",
    "validate.median_mask_area": "[0.0, 1.0]",
    "train.epochs": "2",
    "train.batch_size": "8",
    "train.workers": "0",
    "evaluate.bootstrap": "100",
}


def docker() -> str:
    """A docker command whose builder is BuildKit: a new client needs its buildx plugin, an old one has it built in."""
    for folder in os.environ["PATH"].split(os.pathsep):
        command = shutil.which("docker", path=folder)
        if command is None:
            continue
        if subprocess.run([command, "version"], capture_output=True).returncode:
            continue
        version = subprocess.run([command, "--version"], capture_output=True, text=True).stdout
        has_buildx = subprocess.run([command, "buildx", "version"], capture_output=True).returncode == 0
        if has_buildx or int(version.split()[2].split(".")[0]) < 23:
            return command
    pytest.skip("no container engine with BuildKit answers (DOCKER_HOST); start one to run the container tests")


def snapshot(target: Path) -> Path:
    """The project's files as they are now, git's and new ones, in a folder that nobody edits meanwhile."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def build(target: str, context: Path) -> str:
    """Builds a target of the Dockerfile; returns the image's id."""
    command = docker()
    arguments = ["--build-arg", f"COMMIT={commit()}", *build_options(command)]
    done = subprocess.run(
        [
            command,
            "build",
            "-q",
            "-f",
            "infra/docker/Dockerfile",
            "--target",
            target,
            *arguments,
            "-t",
            f"hymunet:{target}",
            ".",
        ],
        cwd=context,
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def build_options(command: str) -> list[str]:
    """How a build reaches packages; torch comes from an image of wheels, as in the Dockerfile, where there is one."""
    options = ["--network", "host"]
    if subprocess.run([command, "image", "inspect", WHEELS], capture_output=True).returncode == 0:
        options += ["--build-arg", f"WHEELS={WHEELS}", "--build-arg", "TORCH_BACKEND="]
    return options


@cache  # of the whole session, whatever is committed meanwhile
def commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


@dataclass
class Stack:
    """A settings file over real servers, and `python -m pipelines` on it, from a copy of the project."""

    name: str  # of the model that it registers
    project: Path
    folder: Path
    images: dict[str, str]
    s3: S3Server
    mlflow: MLflowServer
    bucket: str
    extra: dict[str, str]  # of the containers' environment

    @property
    def remote(self) -> str:
        return f"s3://{self.bucket}/dvc"

    def settings(self) -> Path:
        path = self.folder / "settings.yaml"
        secret = {"name": "hymunet", "keys": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]}
        environment = {
            "AWS_ENDPOINT_URL": self.s3.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_TRACKING_URI": self.mlflow.uri,
            "HYMUNET_CHECKPOINTS": f"s3://{self.bucket}/checkpoints",
            **self.extra,
        }
        content = {"images": self.images, "dvc_remote": self.remote, "environment": environment, "secrets": [secret]}
        with path.open("w") as file:
            YAML().dump(content, file)
        return path

    def environment(self) -> dict[str, str]:
        keys = {name: self.s3.env[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        return {**os.environ, **keys, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(self.project)}

    def pipelines(self, verb: str, *options: str, log: Path, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pipelines", verb, "--settings", str(self.settings()), *options]
        with log.open("wb") as file:
            return subprocess.Popen(
                command, cwd=cwd or self.project, env=self.environment(), stdout=file, stderr=subprocess.STDOUT
            )

    def log(self, run: str) -> Path:
        return self.folder / f"{run}.log"

    def start(self, run: str, **changed: str) -> subprocess.Popen[bytes]:
        """Starts `run-local` on the demo in miniature, with single parameters changed (`evaluate__seed="1"`)."""
        chosen = (
            TINY
            | {"register.model_name": self.name}
            | {name.replace("__", "."): value for name, value in changed.items()}
        )
        overrides = [f"-S{key}={value}" for key, value in chosen.items()]
        options = ["--profile", "demo", "--run", run, "--root", str(self.folder / "artifacts"), *overrides]
        return self.pipelines("run-local", *options, log=self.log(run))

    def run(self, run: str, **changed: str) -> tuple[int, str]:
        """The pipeline to its end: exit code and log."""
        process = self.start(run, **changed)
        try:
            code = process.wait(timeout=1500)
        finally:
            process.kill()
        return code, self.log(run).read_text()

    def run_and_kill_training(self, run: str, **changed: str) -> tuple[int, str]:
        """The pipeline to its end, its training's container killed once, when its first checkpoint is in the store."""
        import docker

        process, killed = self.start(run, **changed), False
        store, engine = self.s3.client(), docker.from_env().api
        while process.poll() is None and not killed:
            listed = store.list_objects_v2(Bucket=self.bucket, Prefix="checkpoints/").get("Contents", [])
            if any(entry["Key"].endswith(".json") for entry in listed):
                for container in [c["Id"] for c in engine.containers() if "--stage train" in c["Command"]]:
                    engine.kill(container)
                    killed = True
            time.sleep(0.1)
        code, log = process.wait(timeout=900), self.log(run).read_text()
        assert killed, f"the training ended before it could be killed\n{log[-6000:]}"
        return code, log

    def fetch(self, run: str, clone: Path) -> None:
        log = self.log(f"fetch-{run}")
        assert self.pipelines("fetch", run, log=log, cwd=clone).wait(timeout=300) == 0, log.read_text()

    def states(self, run: str) -> dict[str, str]:
        return {name: record["state"] for name, record in self.records(run).items()}

    def records(self, run: str) -> dict[str, dict]:
        """Step -> its record."""
        prefix = f"dvc/pipeline-runs/{run}/"
        listed = self.s3.client().list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        names = [entry["Key"] for entry in listed if entry["Key"].endswith(".json")]
        bodies = [json.load(self.s3.client().get_object(Bucket=self.bucket, Key=name)["Body"]) for name in names]
        return {body["stage"]: body for body in bodies}


def checkout(stack: Stack, target: Path) -> Path:
    """A copy of the project without caches, with its compiled parts, under a git of its own."""
    shutil.copytree(stack.project, target)
    for library in (ROOT / "hymunet").rglob("*.so"):
        shutil.copy2(library, target / library.relative_to(ROOT))
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=target, check=True)
    return target


def dvc(stack: Stack, clone: Path, *arguments: str) -> str:
    """A dvc command on a workstation that uses the stack's store and registry; returns what it printed."""
    stores = {"AWS_ENDPOINT_URL": stack.s3.endpoint, "MLFLOW_TRACKING_URI": stack.mlflow.uri}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=clone,
        env={**stack.environment(), **stores, "PATH": path, "PYTHONPATH": str(clone)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ran(output: str) -> set[str]:
    """The stages that a `dvc repro` ran, by what it printed."""
    return set(re.findall(r"Running stage '(\w+)'", output))
