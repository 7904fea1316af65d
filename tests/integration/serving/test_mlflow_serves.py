"""`mlflow models serve` on a version as it is registered: arrays in, masks out, and a clear 400 for anything else."""

import base64
import json
import sys

import numpy as np
import pytest
import requests

from hymunet.inference import Segmenter
from hymunet.registry import register
from tests.support.image_files import good
from tests.support.servers import HOST, Server, answers, free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def segmenter(model):
    return Segmenter.load(model, threshold=0.45, flips=True, temperature=1.5, device="cpu")


@pytest.fixture(scope="module")
def address(model, tmp_path_factory):
    """The command's own server, in an empty folder, on no code but the version's."""
    folder = tmp_path_factory.mktemp("served")
    description = json.loads((model / "model.json").read_text())
    decides = {"threshold": 0.45, "flips": True, "temperature": 1.5}
    register.save(register.Candidate(model, folder, description, decides, {}), folder / "version")
    port = free_port()
    url = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(folder / "version")]
    command += ["--env-manager", "local", "--host", HOST, "--port", str(port)]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": "", "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/m.db"}
    server = Server(command, lambda: answers(f"{url}/ping"), folder / "log", quiet)
    server.start()
    yield url
    server.stop()


def ask(address, body):
    return requests.post(f"{address}/invocations", json=body, timeout=120)


@pytest.mark.parametrize("key", ["inputs", "instances"])
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 50, 41)])
def test_arrays_give_the_masks_of_the_version_as_it_was_tested(address, segmenter, key, shape):
    images = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    answer = ask(address, {key: images.tolist()})
    assert answer.status_code == 200, answer.text
    found = np.array(answer.json()["predictions"])
    assert np.mean(found != np.stack(segmenter.masks(list(images)))) <= 1e-3, "a pixel at the threshold may differ"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"inputs": [[[[0.5, 0.1, 0.9]]]]}, "no value from 3 to 252"),
        ({"inputs": [[[[300, 10, 10]]]]}, "300"),
        ({"inputs": [[1, 2], [3, 4]]}, "shape"),
        ({"inputs": [base64.b64encode(good()["PNG"]).decode()]}, "Invalid input"),
        ({"images": []}, "inputs"),
        ([], ""),
    ],
)
def test_what_is_no_array_of_images_is_refused(address, body, reason):
    answer = ask(address, body)
    assert answer.status_code == 400, answer.text
    assert reason in answer.text
    assert requests.get(f"{address}/ping", timeout=60).status_code == 200
