"""`python -m pipelines`: whatever is wrong with what it is given, or with what it asks, is one line and exit code 1."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMPILE = ["compile", "--allow-tags"]
FETCH = ["fetch", "run-1"]


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "KUBE"))}
    nothing = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": "/none", "AWS_MAX_ATTEMPTS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments],
        cwd=ROOT,
        env=kept | nothing | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ([*COMPILE, "--profile", "nope"], {}, "--profile nope: there are demo, folder,"),
        ([*COMPILE, "--settings", "nope.yaml"], {}, "nope.yaml: no such file; name with --settings a copy of"),
        ([*COMPILE, "--image", "gpu=x"], {}, "--image gpu=x: expected one of cpu, data, accelerator"),
        ([*COMPILE, "--image", "cpu="], {}, "--image cpu = '' is no image's name; name it by its digest"),
        ([*COMPILE, "--as", "pipelineversion", "--namespace", "A b"], {}, "--namespace 'A b' is no Kubernetes name"),
        (
            FETCH,
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
            "s3://hymunet/dvc: the store cannot be read (NoCredentials",
        ),
        (
            FETCH,
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
            "s3://hymunet/dvc: the store cannot be read (EndpointConnectionError",
        ),
        (FETCH, {"AWS_PROFILE": "nobody"}, "s3://hymunet/dvc: the store cannot be read (ProfileNotFound"),
        (["check"], {"KUBECONFIG": "BROKEN"}, "the kubeconfig is not valid YAML"),
        (
            ["run-local", "--allow-tags", "--root", "ROOT"],
            {"DOCKER_HOST": "unix:///none.sock"},
            "no container engine answers",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], environment: dict[str, str], said: str, tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("clusters:\n\t- x\n", encoding="utf-8")
    places = {"BROKEN": str(tmp_path / "broken"), "ROOT": str(tmp_path / "root")}
    named = {key: places.get(value, value) for key, value in environment.items()}
    done = command(*(places.get(one, one) for one in arguments), **named)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"pipelines: {said}")
    assert done.stderr.count("\n") == 1
