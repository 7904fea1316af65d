"""Whatever is sent gets a right answer or a clear 4xx, and the server stays up."""

import base64
import contextlib
import json
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from hymunet import images
from hymunet.evaluation.confidence import soft_dice
from hymunet.serving import server as process
from tests.support.image_files import bad, good
from tests.support.serving import running, wait_for

GOOD, BAD = good(), bad()
PNG, JPEG = GOOD["PNG"], GOOD["JPEG"]
pytestmark = pytest.mark.integration


def pixels(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def expected(segmenter, content):
    (mask,) = segmenter.masks([images.rgb(content, "it")])
    return mask


@pytest.fixture(autouse=True)
def _still_up(server):
    yield
    assert server.get("/health").status_code == 200
    assert server.service.admission.count == 0, "every slot was given back"


@pytest.mark.parametrize("name", GOOD)
def test_the_answer_is_the_segmenters_mask(server, segmenter, name):
    answer = server.post(GOOD[name], headers={"Accept": "image/png"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    np.testing.assert_array_equal(pixels(answer.content), 255 * expected(segmenter, GOOD[name]))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gets_a_clear_refusal(server, name):
    content, status, words = BAD[name]
    answer = server.post(content, headers={"Content-Type": "image/png"})
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]


FORMS = {  # files of a form -> status, words
    "a file": ({"image": ("lesion.png", PNG, "image/png")}, 200, ""),
    "a path as its name": ({"image": ("../../../etc/passwd\0.png", PNG, "image/png")}, 200, ""),
    "another type": ({"image": ("lesion.exe", JPEG, "application/x-msdownload")}, 200, ""),
    "another field": ({"file": ("lesion.png", PNG, "image/png")}, 400, "field image"),
    "two fields": ({"image": ("a.png", PNG), "more": ("b.png", PNG)}, 400, "one file"),
    "text in the field": ({"image": (None, "text")}, 400, "found: none"),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(server, segmenter, name):
    files, status, words = FORMS[name]
    answer = server.post(files=files, query="?output=mask")
    assert answer.status_code == status, answer.text
    if status == 200:
        np.testing.assert_array_equal(pixels(answer.content), 255 * expected(segmenter, files["image"][1]))
    else:
        assert words in answer.json()["error"]


OTHERS = {  # method, path, headers, body -> status, words
    "JSON": ("POST", "/v1/segment", {"Content-Type": "application/json"}, b"{}", 415, "application/json"),
    "curl's default": (
        *("POST", "/v1/segment", {"Content-Type": "application/x-www-form-urlencoded"}, PNG),
        *(415, "Content-Type: image/png"),
    ),
    "a form without boundary": ("POST", "/v1/segment", {"Content-Type": "multipart/form-data"}, PNG, 400, "form"),
    "a form that is none": (
        *("POST", "/v1/segment", {"Content-Type": "multipart/form-data; boundary=x"}, PNG),
        *(400, "form"),
    ),
    "a form with a boundary of odd characters": (
        *("POST", "/v1/segment", {"Content-Type": "multipart/form-data; boundary=\xe9"}, PNG),
        *(400, "form"),
    ),
    "no such output": ("POST", "/v1/segment?output=gif", {}, PNG, 422, "output"),
    "HTML alone accepted": ("POST", "/v1/segment", {"Accept": "text/html"}, PNG, 406, "application/json"),
    "GET": ("GET", "/v1/segment", {}, b"", 405, "/v1/segment does not answer GET but POST"),
    "no such path": ("GET", "/admin", {}, b"", 404, "nothing is at /admin; POST an image to /v1/segment"),
    "another method of the page": ("DELETE", "/", {}, b"", 405, "/ does not answer DELETE but GET"),
    "out of the page's folder": ("GET", "/..%2fapp.py", {}, b"", 404, "nothing is at /"),
    "out of the page's folder, twice quoted": ("GET", "/%252e%252e/app.py", {}, b"", 404, "nothing is at /"),
    "no such sample": ("GET", "/samples/99.png", {}, b"", 404, "samples"),
    "a sample's path": ("GET", "/samples/..%2f..%2fapp.py.png", {}, b"", 404, "nothing is at /"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_requests(server, name):
    import requests

    method, path, headers, body, status, words = OTHERS[name]
    encoded = {key: value.encode("latin-1") for key, value in headers.items()}
    answer = requests.request(method, server.address + path, headers=encoded, data=body, timeout=60)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]


NO_HTTP = {
    "words": b"HELLO\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a length that is no number": b"POST /v1/segment HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    "a part without its length": (
        b"POST /v1/segment HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Type: image/png\r\n\r\nxyz\r\n"
    ),
}


@pytest.mark.parametrize("case", NO_HTTP)
def test_what_is_no_http_gets_the_form_of_all_refusals(server, case):
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(NO_HTTP[case])
        received = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\ncontent-type: application/json\r\n" in head.lower() + b"\r\n"
    assert "http" in json.loads(body)["error"]


@pytest.mark.parametrize("path", ["/v1/segment/", "/v1/model/", "/health/", "/page"])
@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Proto": "https"}, {"Host": "other.example"}])
def test_a_redirect_leads_to_where_the_client_came_in(server, path, headers):
    """Behind TLS an address with http:// would lead out of it, and one with another Host to somebody else."""
    import requests

    ask = requests.post if "segment" in path else requests.get
    answer = ask(server.address + path, headers=headers, allow_redirects=False, timeout=60)
    assert answer.status_code == 307
    assert answer.headers["location"] == (path[:-1] if path.endswith("/") else f"{path}/")


def parts(content, count):
    """As a body of unknown length."""
    for start in range(0, len(content), len(content) // count + 1):
        yield content[start : start + len(content) // count + 1]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("times", [1.5, 30])
def test_a_large_upload_is_refused_and_not_kept(model, chunked, times):
    with running(model, max_bytes=100_000) as server:
        content = bytes(int(100_000 * times))
        try:
            answer = server.post(parts(content, 50) if chunked else content)
        except OSError:
            assert times > 4, "cut off, as it went on after the answer"
        else:
            assert answer.status_code == 413
            assert answer.json()["error"] == (
                "the body is larger than 100,000 bytes (97.7 KiB); send it as JPEG, or fewer pixels of it; whoever "
                "runs the server can take more: --max-bytes"
            )
        assert server.post(PNG).status_code == 200


def test_slow_uploads_and_silent_connections_are_ended(model, monkeypatch):
    monkeypatch.setattr("hymunet.serving.server.HEAD_SECONDS", 0.5)
    with running(model, upload_seconds=0.5) as server:
        place = ("127.0.0.1", int(server.address.rpartition(":")[2]))
        with socket.create_connection(place) as slow, socket.create_connection(place) as silent:
            slow.sendall(b"POST /v1/segment HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
            slow.settimeout(20)
            silent.settimeout(20)
            answer = slow.makefile("rb").read()
            assert b"408 Request Timeout" in answer.splitlines()[0]
            assert b"the upload took more than 0.5 s; send a smaller file; " in answer
            assert silent.recv(1) == b"", "closed"
        assert server.service.admission.count == 0


TRICKLES = {  # what is sent at once, before a byte now and then -> the answer's status
    "a body that was too slow": (b"POST /v1/segment HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", b"408"),
    "a body that was refused": (
        b"POST /v1/segment HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n",
        b"415",
    ),
    "the head of a second request": (b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", b"200"),
}


@pytest.mark.parametrize("case", TRICKLES)
def test_a_byte_now_and_then_keeps_no_connection(model, monkeypatch, case):
    monkeypatch.setattr("hymunet.serving.server.HEAD_SECONDS", 0.5)
    first, status = TRICKLES[case]
    with running(model, upload_seconds=0.5) as server:
        place = ("127.0.0.1", int(server.address.rpartition(":")[2]))
        with socket.create_connection(place) as slow:
            slow.sendall(first)
            slow.settimeout(20)
            assert slow.recv(4096).split()[1] == status

            def cut_off():
                try:
                    slow.sendall(b"X")
                except OSError:
                    return True
                return False

            wait_for(cut_off)
        assert server.service.admission.count == 0


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/metrics", "/v1/model", "/v1/segment"])
def test_head_is_answered_as_get_is(server, path):
    import requests

    head, get = (requests.request(method, server.address + path, timeout=60) for method in ("HEAD", "GET"))
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


def test_a_client_that_leaves_holds_nothing(server):
    place = ("127.0.0.1", int(server.address.rpartition(":")[2]))
    with socket.create_connection(place) as leaving:
        leaving.sendall(b"POST /v1/segment HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
        wait_for(lambda: server.service.admission.count == 1)
    wait_for(lambda: server.service.admission.count == 0)
    assert 'status="499"' in server.get("/metrics").text


def test_overload_is_refused_with_the_time_to_come_again(model, segmenter):
    content = GOOD["large"]
    with running(model, queue=2) as server, ThreadPoolExecutor(12) as clients:
        together = threading.Barrier(12)

        def ask(number):
            together.wait()
            return server.post(content, query="?output=mask")

        answers = list(clients.map(ask, range(12)))
        statuses = {answer.status_code for answer in answers}
        assert statuses == {200, 429}
        for answer in answers:
            if answer.status_code == 429:
                assert 1 <= int(answer.headers["Retry-After"]) <= 60
            else:
                np.testing.assert_array_equal(pixels(answer.content), 255 * expected(segmenter, content))
        assert server.post(content).status_code == 200


def test_an_answer_that_takes_too_long_is_a_503(model):
    with running(model, seconds=1e-4) as server:
        answer = server.post(GOOD["large"])
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert "1e-04 s" in answer.json()["error"] or "0.0001 s" in answer.json()["error"]


def test_images_of_many_sizes_share_batches(server, segmenter):
    contents = [GOOD[name] for name in ("PNG", "a line", "JPEG turned by EXIF", "large") for _ in range(6)]
    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda content: server.post(content, query="?output=mask"), contents))
    for content, answer in zip(contents, answers, strict=True):
        differing = np.mean(pixels(answer.content) != 255 * expected(segmenter, content))
        assert differing <= 1e-3, "sums over a batch may differ in their last bit, at the threshold"
    figures = dict(line.rsplit(" ", 1) for line in server.get("/metrics").text.splitlines() if line[0] != "#")
    in_total, batches = (float(figures[f"hymunet_batch_images_{name}"]) for name in ("sum", "count"))
    assert in_total > batches, "some held more than one image"


def test_all_pictures_and_the_measures_are_of_one_mask(server, segmenter):
    found = server.post(JPEG, query="?output=all").json()
    mask = expected(segmenter, JPEG)
    np.testing.assert_array_equal(pixels(base64.b64decode(found["mask_png"])), 255 * mask)
    probability = pixels(base64.b64decode(found["probability_png"]))
    np.testing.assert_array_equal(probability, pixels(server.post(JPEG, query="?output=probability").content))
    assert ((probability > 128)[mask == 0]).sum() == 0
    assert (found["width"], found["height"]) == mask.shape[::-1]
    assert (found["area_pixels"], found["area_fraction"]) == (mask.sum(), mask.mean())
    assert found["confidence"] == pytest.approx(soft_dice(probability / np.float32(255), mask), abs=0.01)
    assert found["model"]["weights_sha256"] == segmenter.info["weights_sha256"]
    plain = server.post(JPEG).json()
    assert plain == {key: value for key, value in found.items() if not key.endswith(("_png", "_jpeg"))}


def test_a_key_is_asked_for_and_told_to_nobody(model, capfd, caplog):
    with running(model, key="gehéim") as server:
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}, {"X-API-Key": b"\xff"}):
            answer = server.post(PNG, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        for headers in ({"X-API-Key": "gehéim".encode()}, {"Authorization": "Bearer gehéim".encode()}):
            assert server.post(PNG, headers=headers).status_code == 200
        said = [server.get(path).text for path in ("/", "/v1/model", "/metrics", "/openapi.json", "/health", "/ready")]
    assert not any("geh" in text for text in (*said, *capfd.readouterr(), caplog.text))


def test_what_watches_the_server(server):
    assert server.get("/ready").json()["status"] == "ready"
    assert server.post(PNG).status_code == 200
    figures = server.get("/metrics").text
    for name in ('hymunet_requests_total{status="200"}', "hymunet_stage_seconds_bucket", "hymunet_model{"):
        assert name in figures
    described = server.get("/openapi.json").json()["paths"]["/v1/segment"]["post"]
    assert {"400", "401", "408", "413", "415", "422", "429", "503"} <= set(described["responses"])
    assert "multipart/form-data" in described["requestBody"]["content"]
    server.service.draining = True
    try:
        answer = server.get("/ready")
        assert (answer.status_code, answer.headers["connection"]) == (503, "close")
        assert server.post(PNG).status_code == 200, "who comes all the same is answered"
    finally:
        server.service.draining = False


def fuzzed(count, seed):
    random = np.random.default_rng(seed)
    names = sorted(set(GOOD) - {"large"})
    for _ in range(count):
        content = bytearray(GOOD[names[random.integers(len(names))]])
        for _ in range(random.integers(1, 6)):
            kind, place = (
                random.integers(4),
                int(random.integers(min(len(content), 200) if random.random() < 0.5 else len(content))),
            )
            if kind == 0:
                content[place] = int(random.integers(256))
            elif kind == 1:
                content[place : place + 4] = random.bytes(4)
            elif kind == 2 and len(content) > 40:
                del content[place : place + int(random.integers(1, 30))]
            else:
                content[place:place] = random.bytes(int(random.integers(1, 30)))
        if random.random() < 0.1:
            del content[int(random.integers(len(content))) :]
        yield bytes(content)


@pytest.mark.parametrize(
    ("count", "seed"), [(200, 0), pytest.param(3000, 1, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_fuzzed_files(model, tmp_path, monkeypatch, count, seed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    statuses = set()
    with running(model, max_pixels=4_000_000) as server:
        for content in fuzzed(count, seed):
            answer = server.post(content, query="?output=mask")
            assert answer.status_code in (200, 413, 415, 422), answer.text
            assert answer.status_code == 200 or answer.json()["error"]
            statuses.add(answer.status_code)
    assert {200, 422} <= statuses, "some were still good, some were not"
    assert list(tmp_path.iterdir()) == [], "nothing was written"


def test_a_connection_too_many_is_told_when_to_come_again(server, monkeypatch):
    """Whole, though its body is not read; and whoever watches the server still hears that it lives."""
    monkeypatch.setattr(process, "CONNECTIONS", 3)
    place = server.address.removeprefix("http://").split(":")
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection((place[0], int(place[1]))))
        for _ in range(20):
            answer = server.post(np.random.default_rng(0).bytes(3_000_000))
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "5"
            assert "connections are open" in answer.json()["error"]
        assert server.get("/health").status_code == 200
    wait_until = time.monotonic() + 30
    while server.post(PNG).status_code != 200:
        assert time.monotonic() < wait_until
