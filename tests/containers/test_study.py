"""The study's Kubeflow form in the real images: two models × two seeds, one cell killed; the workstation computes
nothing.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.containers.stack import Stack, checkout
from tests.support import demo_study

pytestmark = [pytest.mark.containers, pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def stack(new_stack: Callable[..., Stack]) -> Stack:
    return new_stack("study", HYMUNET_TRACKING="off")


@pytest.fixture(scope="module")
def clone(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = checkout(stack, tmp_path_factory.mktemp("study") / "clone")
    demo_study.write(folder / "studies/demo", epochs=4)
    return folder


def start(stack: Stack, clone: Path, run: str) -> subprocess.Popen[bytes]:
    where = ["--pipeline", "study", "--study", "studies/demo", "--parallel", "2", "--run", run]
    return stack.pipelines(
        "run-local", *where, "--root", str(stack.folder / "artifacts"), log=stack.log(run), cwd=clone
    )


def told(log: str) -> dict[str, str]:
    """Cell -> state, by the last step's table."""
    found = re.findall(r"^(drawn/\S+) +(computed|restored|failed|skipped) +[\d.]+ s", log, re.MULTILINE)
    return dict(found)


def test_a_killed_cell_goes_on_in_the_next_container_and_the_rest_is_not_computed_twice(
    stack: Stack, clone: Path
) -> None:
    import docker

    process, killed = start(stack, clone, "first"), False
    engine, store = docker.from_env().api, stack.s3.client()
    while process.poll() is None and not killed:
        listed = store.list_objects_v2(Bucket=stack.bucket, Prefix="checkpoints/").get("Contents", [])
        if any(entry["Key"].endswith(".json") for entry in listed):
            for container in [c["Id"] for c in engine.containers() if "pipelines.study_cell" in c["Command"]][:1]:
                engine.kill(container)
                killed = True
        time.sleep(0.1)
    code, log = process.wait(timeout=1800), stack.log("first").read_text()
    assert killed, log[-6000:]
    assert code == 0, log[-6000:]
    assert told(log) == dict.fromkeys(demo_study.CELLS, "computed")
    assert "study-cell: try 2 of" in log

    code, log = start(stack, clone, "second").wait(timeout=1800), stack.log("second").read_text()
    assert code == 0, log[-6000:]
    assert told(log) == dict.fromkeys(demo_study.CELLS, "restored")


def test_then_the_local_study_computes_nothing(stack: Stack, clone: Path) -> None:
    command = [sys.executable, "-m", "hymunet.cli", "study", "run", "studies/demo", "--store", f"{stack.remote}/study"]
    done = subprocess.run(
        command,
        cwd=clone,
        env={**stack.environment(), "AWS_ENDPOINT_URL": stack.s3.endpoint, "PYTHONPATH": str(clone)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 results taken, 0 given" in done.stdout
    assert "to compute: 0" in done.stdout
