"""The registry's alias is followed, under load: every answer is of one whole version. And SIGTERM loses nothing."""

import base64
import json
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests

from hymunet import images
from hymunet.inference import Segmenter
from hymunet.registry.client import registry
from tests.support.image_files import good
from tests.support.servers import Server, free_port
from tests.support.serving import running, wait_for
from tests.support.versions import add, untrained

GOOD = good()
NAME = "followed"
pytestmark = pytest.mark.integration


@pytest.fixture
def client(tmp_path, monkeypatch):
    """An empty registry in a SQLite file, which the server finds too."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    with registry() as opened:
        opened.create_registered_model(NAME)
        yield opened


@pytest.fixture
def versions(client, tmp_path):
    """Number -> its segmenter. They differ in weights, threshold and the size that the model sees.

    A threshold is the median of the probabilities, so that untrained models make masks that are told apart.
    """
    found = {}
    image = images.rgb(GOOD["PNG"], "it")
    for size in (32, 48):
        model = untrained(tmp_path / f"model{size}", size, seed=size)
        threshold = float(np.median(Segmenter.load(model).probabilities(images.resize(image, size)[None])))
        number = add(client, NAME, model, threshold, tmp_path / f"evaluation{size}")
        found[number] = Segmenter.load(model, threshold=threshold)
    client.set_registered_model_alias(NAME, "champion", "1")
    return found


class Load:
    """Clients that ask without a pause until told to stop, each answer checked against the version that it names."""

    def __init__(self, address, clients, check):
        self.address, self.check = address, check
        self.stopped, self.outcomes, self.problems = threading.Event(), Counter(), []
        self.threads = [threading.Thread(target=self.ask) for _ in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def ask(self):
        while not self.stopped.is_set():
            try:
                answer = requests.post(f"{self.address}/v1/segment?output=all", data=GOOD["PNG"], timeout=60)
                assert answer.status_code == 200, answer.text
                self.outcomes[self.check(answer.json())] += 1
            except Exception as error:  # whatever it is, it is a request without its answer
                self.problems.append(repr(error))


def of_its_version(segmenters):
    image = images.rgb(GOOD["PNG"], "it")
    masks = {number: segmenter.masks([image])[0] for number, segmenter in segmenters.items()}

    def check(found):
        number = found["model"]["source"].removeprefix(f"models:/{NAME}/")
        segmenter = segmenters[number]
        assert found["model"]["weights_sha256"] == segmenter.info["weights_sha256"]
        assert found["threshold"] == segmenter.threshold
        mask = cv2.imdecode(np.frombuffer(base64.b64decode(found["mask_png"]), np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.mean(mask != 255 * masks[number]) <= 0.01, "a pixel at the threshold may differ with the batch"
        return number

    assert np.mean(masks["1"] != masks["2"]) > 0.05, "told apart"
    return check


def test_an_alias_moves_under_load_and_no_request_fails(client, versions):
    with running(f"models:/{NAME}@champion", follow_seconds=0.2) as server:
        with Load(server.address, 4, of_its_version(versions)) as load:
            for number in ("2", "1", "2"):
                before = load.outcomes[number]
                client.set_registered_model_alias(NAME, "champion", number)
                wait_for(lambda: load.problems or load.outcomes[number] > before + 3)  # noqa: B023
        assert load.problems == []
        figures = server.get("/metrics").text
        assert "hymunet_model_switches_total 3.0" in figures
        assert f'hymunet_model{{source="models:/{NAME}/2"' in figures


def test_a_version_that_cannot_be_read_changes_nothing(client, versions, tmp_path, caplog):
    broken = untrained(tmp_path / "broken", 32, seed=0)
    content = bytearray((broken / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (broken / "model.safetensors").write_bytes(content)
    add(client, NAME, broken, 0.5, tmp_path / "evaluation")
    with running(f"models:/{NAME}@champion", follow_seconds=0.1) as server:
        client.set_registered_model_alias(NAME, "champion", "3")
        wait_for(lambda: "hymunet_follow_failures_total 0.0" not in server.get("/metrics").text)
        assert server.post(GOOD["PNG"]).json()["model"]["source"] == f"models:/{NAME}/1"
        assert "are not the weights that model.json describes" in caplog.text
        client.set_registered_model_alias(NAME, "champion", "2")
        wait_for(lambda: server.get("/v1/model").json()["model"]["source"] == f"models:/{NAME}/2")


@pytest.mark.timeout(600)
def test_sigterm_under_load_loses_no_request(model, tmp_path):
    """Clients come, as behind a load balancer, until the server is not ready; what they have asked is answered."""
    port = free_port()
    address, log = f"http://127.0.0.1:{port}", tmp_path / "server.log"
    command = [sys.executable, "-m", "hymunet.cli", "serve", "--model", str(model), "--port", str(port)]

    def ready():
        try:
            return requests.get(f"{address}/ready", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    server = Server([*command, "--drain-seconds", "2"], ready, log, {"PYTHONPATH": str(Path(__file__).parents[3])})
    server.start()
    process = server.process
    try:
        weights = json.loads((model / "model.json").read_text())["weights_sha256"]
        with Load(address, 6, lambda found: found["model"]["weights_sha256"]) as load:
            wait_for(lambda: load.problems or load.outcomes[weights] > 12)
            before = load.outcomes[weights]
            os.kill(process.pid, signal.SIGTERM)
            wait_for(lambda: not ready())
            wait_for(lambda: load.problems or load.outcomes[weights] > before)
        assert load.problems == []
        assert process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        server.stop()
