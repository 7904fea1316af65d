"""`mlflow models serve` on a registered model: arrays or image files in base64 in, masks out, and a clear 400 for
anything else.
"""

import base64
import io
import json
import sys

import mlflow
import numpy as np
import pandas
import pytest
import requests
from mlflow import MlflowClient

from hymunet import images
from hymunet.inference import Segmenter
from hymunet.registry import register
from tests.support.image_files import bad, good
from tests.support.servers import HOST, Server, answers, free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
FILES = good()
PHOTO = images.rgb(FILES["PNG"], "the PNG")


def text(content):
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def segmenter(model):
    return Segmenter.load(model, threshold=0.45, flips=True, temperature=1.5, device="cpu")


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    """A model's folder as it is registered."""
    folder = tmp_path_factory.mktemp("saved")
    description = json.loads((model / "model.json").read_text())
    decides = {"threshold": 0.45, "flips": True, "temperature": 1.5}
    register.save(register.Candidate(model, folder, description, decides, {}), folder / "version")
    return folder / "version"


@pytest.fixture(scope="module")
def address(version, tmp_path_factory):
    """The command's own server on a registered version, in an empty folder, on no code but the version's."""
    folder = tmp_path_factory.mktemp("served")
    registry = f"sqlite:///{folder}/m.db"
    client = MlflowClient(registry, registry)
    client.create_registered_model("served")
    client.create_model_version("served", str(version))
    client.set_registered_model_alias("served", "champion", "1")
    port = free_port()
    url = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", "models:/served@champion"]
    command += ["--env-manager", "local", "--host", HOST, "--port", str(port)]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": "", "MLFLOW_TRACKING_URI": registry}
    server = Server(command, lambda: answers(f"{url}/ping"), folder / "log", quiet)
    server.start()
    yield url
    server.stop()


def ask(address, body):
    return requests.post(f"{address}/invocations", json=body, timeout=120)


def masks(answer):
    assert answer.status_code == 200, answer.text
    return [np.array(mask) for mask in answer.json()["predictions"]]


def close(found, expected):
    """Another thread count rounds otherwise: a pixel at the threshold may differ."""
    assert [mask.shape for mask in found] == [mask.shape for mask in expected]
    assert all(np.mean(one != other) <= 1e-3 for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("key", ["inputs", "instances"])
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 50, 41)])
def test_arrays_give_the_masks_of_the_version_as_it_was_tested(address, segmenter, key, shape):
    images = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    close(masks(ask(address, {key: images.tolist()})), segmenter.masks(list(images)))


LINE, TURNED = FILES["a line"], FILES["JPEG turned by EXIF"]
FORMS = {  # of three images: two files, and one of the files as an array
    "inputs": {"inputs": [text(LINE), PHOTO.tolist(), text(TURNED)]},
    "instances": {"instances": [text(LINE), PHOTO.tolist(), text(TURNED)]},
    "named inputs": {"inputs": {"image": [text(LINE), PHOTO.tolist(), text(TURNED)]}},
    "rows": {"instances": [{"image": text(file)} for file in (LINE, FILES["PNG"], TURNED)]},
    "dataframe_split": {
        "dataframe_split": {"columns": ["image"], "data": [[text(file)] for file in (LINE, FILES["PNG"], TURNED)]}
    },
    "dataframe_records": {"dataframe_records": [{"image": text(file)} for file in (LINE, FILES["PNG"], TURNED)]},
}


def expected(segmenter):
    return segmenter.masks([images.rgb(LINE, ""), PHOTO, images.rgb(TURNED, "")])


@pytest.mark.parametrize("form", FORMS)
def test_files_in_base64_give_the_masks_that_their_pixels_give(address, segmenter, form):
    close(masks(ask(address, FORMS[form])), expected(segmenter))


def test_so_does_a_parquet_table_of_files(address, segmenter):
    table = io.BytesIO()
    pandas.DataFrame({"image": [LINE, FILES["PNG"], TURNED]}).to_parquet(table)
    kind = {"Content-Type": "application/vnd.apache.parquet"}
    answer = requests.post(f"{address}/invocations", data=table.getvalue(), headers=kind, timeout=120)
    close(masks(answer), expected(segmenter))


def test_a_loaded_model_takes_arrays_files_and_tables(version, segmenter):
    loaded = mlflow.pyfunc.load_model(str(version))
    files = [LINE, FILES["PNG"], TURNED]
    for sent in (
        np.array(files, dtype=object),
        np.array([text(file) for file in files], dtype=object),
        {"image": np.array([text(file) for file in files], dtype=object)},
        pandas.DataFrame({"image": files}),
        pandas.DataFrame({"image": [text(file) for file in files]}),
    ):
        close(loaded.predict(sent), expected(segmenter))
    arrays = loaded.predict(np.stack([PHOTO, PHOTO[::-1]]))
    assert (arrays.dtype, arrays.shape) == (np.uint8, (2, *PHOTO.shape[:2]))
    close(arrays, segmenter.masks([PHOTO, PHOTO[::-1]]))
    assert loaded.predict(np.empty((0, 9, 9, 3), np.uint8)).shape == (0, 9, 9)
    with pytest.raises(ValueError, match=r"^image 0 is the text 'lesion\.jpg', which is no base64"):
        loaded.predict(np.array(["lesion.jpg"]))


REFUSED = (
    {  # -> words of the message
        "fractions": ({"inputs": [[[[0.5, 0.1, 0.9]]]]}, "image 0 holds no value from 3 to 252"),
        "beyond 255": ({"inputs": [[[[300, 10, 10]]]]}, "image 0 holds values from 10 to 300"),
        "no image": ({"inputs": [[1, 2], [3, 4]]}, "image 0: an image must be uint8 RGB of shape (height, width, 3)"),
        "not base64": ({"inputs": ["lesion.jpg"]}, "image 0 is the text 'lesion.jpg', which is no base64"),
        "the second": ({"instances": [text(LINE), text(LINE)[:-1]]}, "image 1 is the text 'iVBOR"),
        "no list": ({"inputs": text(LINE)}, "the images must be a list, also where it is one image"),
        "another column": ({"dataframe_records": [{"img": text(LINE)}]}, "Model is missing inputs ['image']"),
        "another key": ({"images": []}, "inputs"),
        "no key": ([], "Received a list"),
    }
    | {name: ({"inputs": [text(content)]}, "image 0 ") for name, (content, _, _) in bad().items()}
)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_image_is_refused_with_the_reason_as_the_message(address, case):
    body, reason = REFUSED[case]
    answer = ask(address, body)
    assert answer.status_code == 400, answer.text
    message = answer.json()["message"]
    assert reason in message
    assert "column" in case or "key" in case or len(message) < 400, "what was sent is not sent back"
    assert requests.get(f"{address}/ping", timeout=60).status_code == 200
