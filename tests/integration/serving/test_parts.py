"""The parts of serving by themselves: Accept, batches, limits, the command."""

import contextlib
import http.client
import importlib.metadata
import importlib.util
import re
import socket

import cv2
import numpy as np
import pytest

import hymunet
from hymunet import cli, images
from hymunet.inference import Segmenter
from hymunet.serving.answer import wanted
from hymunet.serving.batching import Batcher
from hymunet.serving.intake import decode
from hymunet.serving.limits import Admission, Limits, Refused
from tests.support.serving import running
from tests.support.versions import untrained


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("image/png", "mask"),
        ("image/*", "mask"),
        ("application/json", "json"),
        ("image/png;q=0.5, application/json", "json"),
        ("image/png, application/json;q=0.9", "mask"),
        ("text/html, image/png;q=0.8, */*;q=0.1", "mask"),
        ("IMAGE/PNG ; q=1", "mask"),
        ("application/json;q=0, image/png", "mask"),
        ("text/html", None),
        ("image/png;q=0", None),
        ("image/png;q=much", None),
        (";;,,", None),
    ],
)
def test_accept(accept, expected):
    if expected:
        assert wanted(accept) == expected
    else:
        with pytest.raises(Refused, match="image/png"):
            wanted(accept)


def test_accept_in_several_lines_is_one_wish(server):
    content = cv2.imencode(".png", PAGE)[1].tobytes()
    with contextlib.closing(http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=60)) as client:
        client.putrequest("POST", "/v1/segment")
        for value in ("text/html", "image/png"):
            client.putheader("Accept", value)
        client.putheader("Content-Length", str(len(content)))
        client.endheaders(content)
        assert client.getresponse().getheader("content-type") == "image/png"


@pytest.mark.parametrize("key", ["", "secret"])
def test_openapi_says_whether_a_key_is_asked_for(model, key):
    with running(model, key=key) as server:
        described = server.get("/openapi.json").json()
    asked = [one for choice in described["paths"]["/v1/segment"]["post"].get("security", []) for one in choice]
    ways = [described["components"]["securitySchemes"][name] for name in asked]
    either = [{"type": "apiKey", "in": "header", "name": "X-API-Key"}, {"type": "http", "scheme": "bearer"}]
    assert ways == (either if key else [])


PAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
TIFFS = {  # pages
    "float": [PAGE / np.float32(255)],
    "double": [PAGE / 255],
    "double, grey": [PAGE[..., 0] / 255],
    "32 bits": [PAGE.astype(np.int32)],
    "16 bits, grey": [PAGE[..., 0].astype(np.uint16) * 257],
    "with alpha": [np.dstack([PAGE, PAGE[..., 0]]) / np.float32(255)],
    "with a preview": [PAGE, PAGE[::4, ::4].copy()],
    "the same twice": [PAGE, PAGE],
}


@pytest.mark.parametrize("case", TIFFS)
def test_a_tiff_that_predict_reads_is_served(case):
    content = cv2.imencodemulti(".tif", TIFFS[case])[1].tobytes()
    np.testing.assert_array_equal(decode(content, Limits()), images.rgb(content, "it"))


@pytest.mark.parametrize("pages", [[PAGE], [PAGE[:1], PAGE], [PAGE, PAGE[:1]], [PAGE / 255]])
def test_no_page_of_a_tiff_is_decoded_that_declares_too_many_pixels(pages):
    content = cv2.imencodemulti(".tif", pages)[1].tobytes()
    with pytest.raises(Refused, match="60×40 pixels, 2,400 in all; at most 2,399 are taken") as refusal:
        decode(content, Limits(max_pixels=2399))
    assert refusal.value.status == 413
    assert "; send it smaller, or cut into parts; whoever runs the server can take more: --max" in str(refusal.value)


@pytest.mark.parametrize("pages", [[PAGE, PAGE[::-1].copy()], [PAGE, 255 - PAGE, PAGE]])
def test_pages_are_refused(pages):
    with pytest.raises(Refused, match="several pictures") as refusal:
        decode(cv2.imencodemulti(".tif", pages)[1].tobytes(), Limits())
    assert refusal.value.status == 422


@pytest.fixture(scope="module")
def segmenters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [Segmenter.load(untrained(folder / str(size), size, seed=size)) for size in (32, 48)]


def test_a_batch_is_of_one_version(segmenters):
    sizes = []
    batcher = Batcher(8, lambda size, seconds: sizes.append(size))
    random = np.random.default_rng(0)
    asked = []
    for number in range(30):
        segmenter = segmenters[number % 2]
        image = random.integers(0, 256, (segmenter.image_size,) * 2 + (3,), dtype=np.uint8)
        asked.append((segmenter, image, batcher.submit(segmenter, image)))
    batcher.stop()
    for segmenter, image, result in asked:
        np.testing.assert_allclose(result.result(0), segmenter.probabilities(image[None])[0], atol=1e-5)
    assert sum(sizes) == 30
    assert 1 < max(sizes) <= 8


def test_an_image_that_fails_fails_alone_and_one_that_is_withdrawn_is_left_out(segmenters):
    computed = []
    batcher = Batcher(8, lambda size, seconds: computed.append(size))
    image = np.zeros((32, 32, 3), np.uint8)
    results = [batcher.submit(segmenters[0], one) for one in (image, image, image[:7], image)]
    withdrawn = batcher.submit(segmenters[0], image)
    cancelled = withdrawn.cancel()
    batcher.stop()
    assert [result.exception(0) is None for result in results] == [True, True, False, True]
    assert sum(computed) == 3 + (not cancelled)
    assert not batcher.alive


def test_admission_gives_slots_back_and_names_a_time():
    admission = Admission(2)
    with admission.slot(), admission.slot():
        with pytest.raises(Refused) as refused:
            admission.slot().__enter__()
        assert refused.value.status == 429
        assert 1 <= refused.value.retry_after <= 60
    assert admission.count == 0
    with contextlib.suppress(ZeroDivisionError), admission.slot():
        raise ZeroDivisionError
    assert admission.count == 0
    for _ in range(100):
        admission.took(1000)
    with admission.slot():
        assert admission.retry_after == 60


@pytest.mark.parametrize("name", Limits.__dataclass_fields__)
def test_a_limit_below_what_is_possible_is_named(name):
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} 0 must be above 0"):
        Limits(**{name: 0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "nowhere"], "nowhere"),
        (["--model", "models:/x"], "expected models:/NAME@ALIAS"),
        (["--queue", "0"], "--queue 0 must be above 0"),
        (["--drain-seconds", "-1"], "--drain-seconds at least 0"),
        (["--drain-seconds", "inf"], "--drain-seconds at least 0, both finite"),
        (["--follow-seconds", "nan"], "--follow-seconds must be above 0"),
        (["--seconds", "inf"], "--seconds inf must be above 0 and finite"),
        (["--upload-seconds", "nan"], "--upload-seconds nan must be above 0 and finite"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["serve", *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_port_that_is_taken_is_named(model, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", "--model", str(model), "--port", str(port)]) == 1
    assert f"port {port}: Address already in use; choose another --port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "reason"), [("no.such.host.invalid", "[Nn]ame"), ("192.0.2.1", "Cannot assign requested address")]
)
def test_an_address_that_cannot_be_had_is_named(model, capsys, host, reason):
    assert cli.main(["serve", "--model", str(model), "--host", host]) == 1
    error = capsys.readouterr().err
    assert re.search(f"cannot listen on {host}, port 8000: .*{reason}.*; choose another --host\n$", error)
    assert "Unknown error" not in error


@pytest.mark.parametrize(
    ("model", "missing", "remedy"),
    [("folder", "python_multipart", "hymunet[serve]"), ("models:/x@champion", "mlflow", "hymunet[serve,train]")],
)
def test_a_package_that_is_not_installed_is_named(monkeypatch, capsys, model, missing, remedy):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    assert cli.main(["serve", "--model", model]) == 1
    error = capsys.readouterr().err
    assert missing in error
    assert f"pip install '{remedy}'" in error


def test_it_starts_from_sources_that_are_not_installed(model, monkeypatch):
    """As in the project's images, where they lie in /app."""
    monkeypatch.setattr(importlib.metadata.Distribution, "discover", lambda **_: iter(()))
    with running(model) as server:
        assert server.get("/openapi.json").json()["info"]["version"] == hymunet.__version__
