"""compose.yaml's profile `serving`, started for real: the registry's champion answers, and is followed."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import mlflow
import numpy as np
import pytest
import requests

from hymunet import images
from hymunet.inference import Segmenter
from hymunet.registry.load import open_segmenter
from tests.containers.composed import STORES, environment_of
from tests.containers.stack import snapshot
from tests.support.devtools import browser
from tests.support.image_files import good
from tests.support.versions import add, untrained

pytestmark = [pytest.mark.containers, pytest.mark.integration, pytest.mark.timeout(3600)]
ADDRESS, NAME, KEY = "http://127.0.0.1:8000", "hymunet", "k-3f9a1c"
SECRETS = {"POSTGRES_PASSWORD": "p@ss/1", "AWS_ACCESS_KEY_ID": "store", "AWS_SECRET_ACCESS_KEY": "s3cret/x"}
GOOD = good()["PNG"]


class Compose:
    def __init__(self, command: str, folder: Path) -> None:
        self.command, self.folder = command, folder
        self.environment = os.environ | environment_of(command) | SECRETS | {"HYMUNET_API_KEY": KEY}

    def run(self, *arguments: str, check: bool = True) -> str:
        command = [self.command, "compose", "--profile", "serving", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0 or not check, done.stdout[-6000:]
        return done.stdout

    def inspect(self, form: str) -> str:
        container = self.run("ps", "-aq", "serving").strip()
        command = [self.command, "inspect", "--format", form, container]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def compose(engine: str, pulled: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    started = Compose(engine, snapshot(tmp_path_factory.mktemp("composed")))
    try:
        started.run("up", "--build", "--wait", "mlflow")
        yield started
    finally:
        print(started.run("logs", "--tail", "30", check=False))
        started.run("down", "--volumes", check=False)


@pytest.fixture(scope="module")
def versions(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Segmenter]:
    """Number -> what it is to answer with. A threshold amid the probabilities, so that untrained models draw masks."""
    folder, client, found = tmp_path_factory.mktemp("versions"), mlflow.MlflowClient(STORES[0]), {}
    client.create_registered_model(NAME)
    image = images.rgb(GOOD, "it")
    for size in (32, 48):
        model = untrained(folder / f"model{size}", size, seed=size)
        threshold = float(np.median(Segmenter.load(model).probabilities(images.resize(image, size)[None])))
        number = add(client, NAME, model, threshold, folder / f"evaluation{size}")
        found[number] = Segmenter.load(model, threshold=threshold)
    client.set_registered_model_alias(NAME, "champion", "1")
    return found


@pytest.fixture(scope="module")
def serving(compose: Compose, versions: dict[str, Segmenter]) -> str:
    compose.run("up", "--build", "--wait")
    return ADDRESS


def segment(accept: str, key: str = KEY) -> requests.Response:
    headers = {"Accept": accept, "X-API-Key": key}
    return requests.post(f"{ADDRESS}/v1/segment", data=GOOD, headers=headers, timeout=60)


def assert_mask_of(segmenter: Segmenter) -> None:
    answer = segment("image/png")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
    mask = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    (expected,) = segmenter.masks([images.rgb(GOOD, "it")])
    assert mask.shape == expected.shape
    assert set(np.unique(mask)) == {0, 255}
    assert np.mean(mask != 255 * expected) <= 0.01, "a pixel at the threshold may differ with the processor"


def test_the_champions_mask_comes_back_and_only_with_the_key(serving: str, versions: dict[str, Segmenter]) -> None:
    assert segment("application/json").json()["model"]["source"] == f"models:/{NAME}/1"
    assert_mask_of(versions["1"])
    assert segment("application/json", key="another").status_code == 401


def test_a_workstation_has_the_weights_through_mlflow_alone(
    versions: dict[str, Segmenter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's name, s3, is one of compose's own network."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", STORES[0])
    opened, _ = open_segmenter(f"models:/{NAME}/1")
    assert opened.info["weights_sha256"] == versions["1"].info["weights_sha256"]


def test_its_page_is_there(serving: str, tmp_path: Path) -> None:
    page = requests.get(f"{serving}/", timeout=60)
    assert (page.status_code, page.headers["content-type"].split(";")[0]) == (200, "text/html")
    with browser(tmp_path) as chromium:
        chromium.open(f"{serving}/")
        chromium.until("document.getElementById('hint').textContent.includes('megapixels')")
        assert chromium.complaints == []


def test_it_is_nobody_with_no_rights_who_writes_nowhere(serving: str, compose: Compose) -> None:
    assert (
        compose.inspect("{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.Config.User}}") == "true [ALL] 10001"
    )
    assert "no-new-privileges:true" in compose.inspect("{{.HostConfig.SecurityOpt}}")
    assert (
        compose.inspect("{{json .HostConfig.PortBindings}}")
        == '{"8000/tcp":[{"HostIp":"127.0.0.1","HostPort":"8000"}]}'
    )
    status = "import sys; print([line.split()[1] for line in open('/proc/1/status') if line.startswith('CapEff')])"
    assert "['0000000000000000']" in compose.run("exec", "-T", "serving", "python", "-c", status)


def test_a_new_champion_is_followed_without_a_restart(
    serving: str, versions: dict[str, Segmenter], compose: Compose
) -> None:
    started = compose.inspect("{{.State.StartedAt}}")
    mlflow.MlflowClient(STORES[0]).set_registered_model_alias(NAME, "champion", "2")
    deadline = time.monotonic() + 120
    while segment("application/json").json()["model"]["source"] != f"models:/{NAME}/2":
        assert time.monotonic() < deadline, compose.run("logs", "serving")
        time.sleep(0.5)
    assert_mask_of(versions["2"])
    assert compose.inspect("{{.State.StartedAt}} {{.RestartCount}}") == f"{started} 0"


def test_it_stops_when_told_to_and_not_by_force(serving: str, compose: Compose) -> None:
    compose.run("stop", "serving")
    assert compose.inspect("{{.State.ExitCode}}") == "0"
