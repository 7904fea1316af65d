"""A pipeline in miniature with the shapes of the real one: a folder output, a dependency on one file inside of it, a
check that may say no, a report and a model. Each stage appends its name to the file that TOY_LOG names when it
really runs.
"""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[3]

DVC_YAML = """
stages:
  fetch:
    cmd: python program.py fetch
    params: [fetch]
    deps: [program.py]
    outs: [data/raw]
  prepare:
    cmd: python program.py prepare
    params: [prepare]
    deps: [program.py, data/raw]
    outs: [data/prepared]
  check:
    cmd: python program.py check
    params: [check]
    deps: [program.py, data/prepared/manifest.txt]
    outs: [reports/check]
  fit:
    cmd: python program.py fit
    params: [fit]
    deps: [program.py, data/prepared, reports/check/verdict.json]
    outs: [model]
"""

PROGRAM = """
import json, os, shutil, sys, time
from pathlib import Path

def fetch(params):
    write("data/raw/archive.bin", bytes(params["bytes"]))

def prepare(params):
    raw = Path("data/raw/archive.bin").read_bytes()
    write("data/prepared/manifest.txt", str(len(raw) * params["scale"]).encode())
    write("data/prepared/array.bin", raw[:1000])

def check(params):
    size = int(Path("data/prepared/manifest.txt").read_text())
    failures = [] if size >= params["minimum"] else [f"size {size} is below {params['minimum']}"]
    write("reports/check/verdict.json", json.dumps({"failures": failures}).encode())
    write("reports/check/report.html", b"<h1>check</h1>")
    stop(params)
    sys.exit(bool(failures))

def fit(params):
    stop(params)
    time.sleep(params.get("sleep", 0))
    write("model/weights.bin", bytes(100))
    write("model/scores.json", json.dumps({"test": {"dice": {"mean": 0.5}}}).encode())

def stop(params):
    if params.get("exit"):
        shutil.rmtree("reports", ignore_errors=True)  # nothing was written when it failed
        sys.exit(params["exit"])
    if params.get("kill"):
        os.kill(os.getpid(), params["kill"])

def write(path, content):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)

if __name__ == "__main__":
    with open(os.environ["TOY_LOG"], "a") as log:
        log.write(sys.argv[1] + "\\n")
    globals()[sys.argv[1]](json.loads(Path("params.yaml").read_text())[sys.argv[1]])
"""

PARAMS = {"fetch": {"bytes": 200_000}, "prepare": {"scale": 1}, "check": {"minimum": 10}, "fit": {"rate": 0.1}}
STAGES = ["fetch", "prepare", "check", "fit"]


@dataclass
class Toy:
    """The toy's sources, the shared remote, and steps run as a pod would run them: each in an empty folder."""

    root: Path
    remote: str
    env: dict[str, str]

    @property
    def source(self) -> Path:
        return self.root / "source"

    def create(self) -> "Toy":
        self.source.mkdir(parents=True)
        (self.source / "dvc.yaml").write_text(DVC_YAML)
        (self.source / "program.py").write_text(PROGRAM)
        (self.source / "params.yaml").write_text(json.dumps(PARAMS))
        return self

    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        quiet = {"DVC_NO_ANALYTICS": "1", "TOY_LOG": str(self.root / "log"), "PYTHONDONTWRITEBYTECODE": "1"}
        return {**os.environ, **self.env, **quiet, "PATH": path, "PYTHONPATH": str(ROOT)}

    def ran(self) -> list[str]:
        """Stages whose program ran since the last call."""
        log = self.root / "log"
        lines = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def command(
        self, run: str, stage: str, upstream: str | None, params: dict, *options: str
    ) -> tuple[list[str], Path]:
        outputs = self.root / "runs" / run / stage
        executor_input = executor_input_of(outputs, self.root / "runs" / run / upstream / "lock" if upstream else None)
        command = [sys.executable, "-m", "pipelines.step", "--stage", stage, "--run", run, "--remote", self.remote]
        command += ["--params", json.dumps(params), "--source", str(self.source)]
        command += ["--executor-input", json.dumps(executor_input), *options]
        return command, outputs

    def step(self, run: str, stage: str, upstream: str | None, params: dict = PARAMS, *options: str) -> Path:
        """In this process, since DVC takes seconds to import; returns the folder of the step's outputs."""
        from pipelines import step

        command, outputs = self.command(run, stage, upstream, params, *options)
        with mock.patch.dict(os.environ, self.environment(), clear=True):
            assert step.main(command[3:]) == 0
        return outputs

    def run(self, run: str, params: dict = PARAMS) -> list[str]:
        """The whole pipeline; returns the stages whose program ran."""
        self.ran()
        upstream = None
        for stage in STAGES:
            self.step(run, stage, upstream, params, *OPTIONS.get(stage, []))
            upstream = stage
        return self.ran()

    def clone(self, name: str) -> Path:
        """The sources as a developer would have them: a DVC project with the same remote."""
        clone = self.root / name
        subprocess.run(["cp", "-r", str(self.source), str(clone)], check=True)
        self.dvc(clone, "init", "--no-scm", "-q")
        self.dvc(clone, "remote", "add", "-q", "-d", "shared", self.remote)
        return clone

    def dvc(self, folder: Path, *arguments: str) -> None:
        from dvc.cli import main

        with contextlib.chdir(folder), mock.patch.dict(os.environ, self.environment(), clear=True):
            assert main([*arguments]) == 0


OPTIONS = {
    "check": ["--report", "reports/check/report.html", "--verdict", "reports/check/verdict.json"],
    "fit": ["--metrics", "model/scores.json", "--model", "model"],
}


def executor_input_of(outputs: Path, lock: Path | None) -> dict:
    """What Kubeflow would pass for `{{$}}`."""
    names = ["lock", "metrics", "report", "model"]
    return {
        "inputs": {"artifacts": {"lock": {"artifacts": [{"name": "lock", "uri": str(lock)}]}} if lock else {}},
        "outputs": {
            "artifacts": {
                name: {"artifacts": [{"name": name, "uri": str(outputs / name), "metadata": {}}]} for name in names
            },
            "parameters": {"passed": {"outputFile": str(outputs / "passed")}},
            "outputFile": str(outputs / "executor_output.json"),
        },
    }
