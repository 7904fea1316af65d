"""The extras of the image that serves: every place names the same ones, and they are what a server needs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from hymunet.registry.client import registry
from tests.support.image_files import good
from tests.support.versions import add, untrained

ROOT = Path(__file__).resolve().parents[3]
EXTRAS = "serve,train"
PLACES = {  # where an image that serves is built or asked for -> how its extras are named there
    "infra/docker/compose.yaml": r"EXTRAS: \"(.*?)\"",
    "docs/kubernetes.md": r"EXTRAS=(\S+)",
    "docs/serving.md": r"EXTRAS=([\w,]+)",
    "hymunet/serving/commands.py": r"an image with hymunet\[(.*?)\]",
}
pytestmark = pytest.mark.integration


@pytest.mark.parametrize("place", PLACES)
def test_every_place_names_the_same_extras(place):
    assert re.findall(PLACES[place], (ROOT / place).read_text(encoding="utf-8")) == [EXTRAS]


@pytest.fixture
def champion(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    with registry() as client:
        client.create_registered_model("served")
        number = add(client, "served", untrained(tmp_path / "model", 32, seed=1), 0.5, tmp_path / "evaluation")
        client.set_registered_model_alias("served", "champion", number)
    return "models:/served@champion"


def started(extras, model):
    command = [sys.executable, "-m", "tests.support.only_extras", extras, "hymunet.cli", "serve"]
    return subprocess.Popen(
        [*command, "--model", model, "--port", "0"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("model", ["a version", "bundled"])
def test_a_server_needs_no_more(champion, model):
    with started(EXTRAS, champion if model == "a version" else model) as process:
        try:
            address = next((line.split()[0] for line in process.stdout if line.startswith("http://")), None)
            assert address, process.stderr.read()
            answer = requests.post(f"{address}/v1/segment?output=all", data=good()["PNG"], timeout=60)
            assert answer.status_code == 200, answer.text
            assert requests.get(f"{address}/samples/0.png", timeout=60).status_code == 200
        finally:
            process.terminate()


@pytest.mark.parametrize("left_out", EXTRAS.split(","))
def test_a_server_of_versions_needs_no_less(champion, left_out):
    (extras,) = set(EXTRAS.split(",")) - {left_out}
    with started(extras, champion) as process:
        _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.fullmatch(r"hymunet serve: needs the package \w+; pip install 'hymunet\[.*\]'\n", error)
