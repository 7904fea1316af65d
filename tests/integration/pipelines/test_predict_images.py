"""The champion over a bucket and over a folder: stopped, gone on with, asked again; images that cannot be read."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("fsspec", reason="needs the extra `dvc`")

from hymunet.data.acquire.synthetic import draw
from hymunet.inference import Segmenter
from hymunet.registry import client
from pipelines import conclude, predict_images, resolve
from pipelines.bucket import Place
from pipelines.verdicts import FailedForGood, for_good
from pipelines.workspace import STORE_FAILED
from tests.support import versions
from tests.support.forgetful_store import Forgetful
from tests.support.servers import S3Server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parents[3]
SIZE = 32


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with two versions of `lesions`, the first its champion; returns its folder."""
    home = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
        with client.registry() as registry:
            registry.create_registered_model("lesions")
            for seed in range(2):
                model = versions.untrained(tmp_path_factory.mktemp("model"), SIZE, seed)
                versions.add(registry, "lesions", model, 0.5, tmp_path_factory.mktemp("evaluation"))
            registry.set_registered_model_alias("lesions", "champion", "1")
    return home


@pytest.fixture(autouse=True)
def registry(champion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(champion)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{champion}/mlflow.db")
    monkeypatch.setattr(predict_images, "IMAGES_A_PART", 2)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Place, Place]:
    """Source and target; the target lies inside of the source, as people do it."""
    if request.param == "folder":
        return Place(str(tmp_path / "scans")), Place(str(tmp_path / "scans/out"))
    server: S3Server = request.getfixturevalue("s3_server")
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    bucket = server.create_bucket(f"predict-{abs(hash(tmp_path)) % 10**8}")
    return Place(f"s3://{bucket}/scans"), Place(f"s3://{bucket}/scans/out")


def fill(source: Place, names: list[str]) -> dict[str, np.ndarray]:
    images = {}
    for number, name in enumerate(names):
        image = cv2.resize(draw(number, 64, 7)[0], (60 + 9 * number, 70 - 7 * number))
        source.write(name, cv2.imencode(".png", image)[1].tobytes())
        images[name] = image[..., ::-1]
    return images


def asked(source: Place, target: Place, model: str = "models:/lesions/1") -> dict[str, Any]:
    return predict_images.predict(model, source, target, "mask", "", "")


def test_every_image_is_segmented_once_and_a_broken_one_stops_nothing(place: tuple[Place, Place]) -> None:
    source, target = place
    images = fill(source, ["a.png", "deep/b.png", "deep/c.png", "d.png"])
    source.write("a.jpg", b"\xff\xd8\xff broken")
    source.write("notes.txt", b"no image")
    told = asked(source, target)
    assert (told["images"], told["computed"], told["drift"]) == (4, 5, None)
    assert len(told["problems"]) == 1
    assert "a.jpg" in told["problems"][0]
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(target.read("predictions.csv").decode()))}
    assert sorted(rows) == ["a_png", "d_png", "deep/b_png", "deep/c_png"]
    from hymunet.registry.load import open_segmenter

    segmenter: Segmenter = open_segmenter("models:/lesions/1")[0]
    for name, image in images.items():
        content = np.frombuffer(target.read(f"{name.replace('.', '_')}_mask.png"), np.uint8)
        mask = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
        assert mask.shape == image.shape[:2]
        [expected] = segmenter.masks([np.ascontiguousarray(image)])
        assert (mask == 255 * expected).all(), name
        row = rows[name.replace(".", "_")]
        assert float(row["brightness"]) == pytest.approx(
            cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).mean() / 255, abs=0.02
        )
    assert asked(source, target)["computed"] == 0, "the results were taken for images, or computed again"
    source.write("d.png", source.read("a.png"))
    assert asked(source, target)["computed"] == 2, "the part with the image that changed"
    assert asked(source, target, "models:/lesions/2")["computed"] == 5, "another model"


LOST = """schema: '2.0'
stages:
  prepare:
    cmd: python -m components.prepare
    outs: [{path: data/prepared, hash: md5, md5: 0123456789abcdef0123456789abcdef.dir, size: 9, nfiles: 3}]
  split:
    cmd: python -m components.split
    outs: [{path: data/split, hash: md5, md5: fedcba9876543210fedcba9876543210.dir, size: 9, nfiles: 1}]
"""
REFERENCES = {  # the lock of the run that trained, where the remote is -> what is said
    "its data removed": (LOST, "", "its images cannot be pulled"),
    "no stage in its lock": ("schema: '2.0'\nstages: {}\n", "", "its images cannot be pulled"),
    "a store that is away": (None, "http://127.0.0.1:9", "127.0.0.1:9"),
}


@pytest.mark.parametrize("case", REFERENCES)
def test_a_reference_that_cannot_be_pulled_is_one_line_and_worth_another_try(
    case: str, tmp_path: Path, champion: Path
) -> None:
    lock, endpoint, message = REFERENCES[case]
    fill(Place(str(tmp_path / "scans")), ["a.png"])
    if lock:
        (tmp_path / "remote/pipeline-runs/run-1").mkdir(parents=True)
        (tmp_path / "remote/pipeline-runs/run-1/dvc.lock").write_text(lock)
    remote = "s3://bucket/dvc" if endpoint else str(tmp_path / "remote")
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_MAX_ATTEMPTS": "1"}
    environment = {**os.environ, **keys, "PYTHONPATH": str(ROOT), "AWS_ENDPOINT_URL": endpoint}
    words = ["--model", "models:/lesions/1", "--source", str(tmp_path / "scans"), "--target", str(tmp_path / "masks")]
    words += ["--reference", "run-1", "--remote", remote, "--executor-input", json.dumps({"outputs": {}})]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.predict_images", *words],
        env=environment,
        cwd=champion,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == STORE_FAILED, done.stderr
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("predict: ")]
    assert message in line


def test_in_a_pod_whose_workspace_is_not_made_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The volume is there, and the folder in it that the pipeline names is the program's to make."""
    monkeypatch.setenv("HYMUNET_WORKSPACE", str(tmp_path / "work/project"))
    source, target = Place(str(tmp_path / "scans")), Place(str(tmp_path / "masks"))
    fill(source, ["a.png"])
    assert asked(source, target)["images"] == 1


def test_a_model_that_is_asked_again_after_another_finds_none_of_its_masks(place: tuple[Place, Place]) -> None:
    """As a champion that is taken back: the masks there are those of the one after it."""
    source, target = place
    fill(source, [f"{number}.png" for number in range(3)])

    def masks() -> dict[str, bytes]:
        return {name: target.read(name) for name in target.versions() if name.endswith("_mask.png")}

    asked(source, target)
    first = masks()
    assert asked(source, target, "models:/lesions/2")["computed"] == 3
    assert masks() != first
    assert asked(source, target)["computed"] == 3
    assert masks() == first
    assert asked(source, target)["computed"] == 0


def test_names_that_differ_in_their_endings_letters_alone_are_kept_apart(place: tuple[Place, Place]) -> None:
    source, target = place
    fill(source, ["a.png", "a.PNG", "a.Png"])
    assert asked(source, target)["images"] == 3
    assert len([name for name in target.versions() if name.endswith("_mask.png")]) == 3


def test_stopped_between_parts_it_goes_on_there(place: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = place
    fill(source, [f"{number}.png" for number in range(5)])
    real = Place.write

    def dies(self: Place, name: str, content: bytes) -> None:
        if name.startswith("2_png"):
            raise ConnectionError("the store is away")
        real(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Place, "write", dies)
        with pytest.raises(ConnectionError):
            asked(source, target)
    assert [name for name in target.versions() if not name.startswith("parts/")] == ["0_png_mask.png", "1_png_mask.png"]
    told = asked(source, target)
    assert (told["images"], told["computed"]) == (5, 3)


def test_no_image_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing: no image in it"):
        asked(Place(str(tmp_path / "nothing")), Place(str(tmp_path / "out")))


@pytest.fixture
def new_clients() -> Iterator[None]:
    """fsspec keeps those that it made, with the address that they had."""
    s3fs = pytest.importorskip("s3fs", reason="needs the extra `dvc`")
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.usefixtures("new_clients")
@pytest.mark.parametrize(
    ("status", "code", "stops"),
    [
        (503, "SlowDown", True),
        (500, "InternalError", True),
        (403, "AccessDenied", False),
        (404, "NoSuchKey", False),
    ],
)
def test_what_a_store_does_not_give_today_is_asked_for_again(
    status: int, code: str, stops: bool, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was written down as an image that cannot be read, and the next run took that for known."""
    bucket = s3_server.create_bucket(f"forgetful-{code.lower()}")
    for name in ("a.png", "b.png", "c.png"):
        content = cv2.imencode(".png", draw(ord(name[0]), 64, 7)[0])[1].tobytes()
        s3_server.client().put_object(Bucket=bucket, Key=f"scans/{name}", Body=content)
    with Forgetful(s3_server.endpoint, "GET", "b.png", status, code) as store:
        for name, value in {**s3_server.env, "AWS_ENDPOINT_URL": store.uri}.items():
            monkeypatch.setenv(name, value)
        source, target = Place(f"s3://{bucket}/scans"), Place(str(tmp_path / "out"))
        if stops:
            with pytest.raises(OSError, match="b.png") as failed:
                asked(source, target)
            assert not for_good(failed.value)
        else:
            told = asked(source, target)
            assert (told["images"], len(told["problems"])) == (2, 1)
        store.lost = ""
        told = asked(source, target)
        assert (told["images"], told["problems"]) == (3, [])
        assert asked(source, target)["computed"] == 0


ODD = ["d//b.png", "d/../c.png", "./f.png", "/e.png", "d/./g.png"]


@pytest.mark.usefixtures("new_clients")
def test_names_that_no_folder_has_are_told_and_take_no_other_s_place(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket takes any text for a name: of `d//b` and `d/b` one was left out, unsaid."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    bucket = s3_server.create_bucket("odd-names")
    source, target = Place(f"s3://{bucket}/scans"), Place(f"s3://{bucket}/out")
    plain = ["b.png", "c.png", "d/b.png", "d/g.png", "e.png", "f.png", "\u00e4.png", "a\u0308.png", "g .png"]
    fill(source, plain)
    for name in ODD:
        s3_server.client().put_object(Bucket=bucket, Key=f"scans/{name}", Body=source.read("b.png"))
    assert set(source.versions()) == {*plain, *ODD}
    told = asked(source, target)
    assert told["images"] == len(plain)
    assert sorted(told["problems"]) == sorted(
        f"s3://{bucket}/scans/{name}: its name leads elsewhere; rename it" for name in ODD
    )


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


FAILURES = {  # what goes wrong -> whether another try may help
    "no image": (None, False),
    "no right to read": (PermissionError(13, "Access Denied"), False),
    "the store is away": (ConnectionError("the store is away"), True),
    "the registry is away": (client.Unavailable("MLflow at http://a: no answer"), True),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_would_fail_again_ends_the_run_and_is_not_tried_again(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, may_help = FAILURES[case]
    if error:
        monkeypatch.setattr(predict_images, "predict", failing(error))
    names = ("report", "metrics", "lock")
    artifacts = {name: {"artifacts": [{"name": name, "uri": str(tmp_path / name)}]} for name in names}
    told = {"outputs": {"artifacts": artifacts, "outputFile": str(tmp_path / "output.json")}}
    asked = ["--model", "models:/lesions/1", "--source", str(tmp_path / "scans"), "--target", str(tmp_path / "out")]
    asked += ["--executor-input", json.dumps(told)]
    if may_help:
        with pytest.raises(OSError, match="away|no answer"):
            predict_images.main(asked)
        return
    assert predict_images.main(asked) == 0
    told["inputs"] = {"artifacts": {"lock_before": artifacts["lock"]}}
    assert conclude.main(["--executor-input", json.dumps(told)]) == 1
    assert "step predict failed" in (tmp_path / "report").read_text()


def test_an_alias_becomes_the_version_that_it_names_now(tmp_path: Path) -> None:
    lock = {"artifacts": [{"name": "lock", "uri": str(tmp_path / "lock")}]}
    outputs = {"parameters": {"version": {"outputFile": str(tmp_path / "version")}}, "artifacts": {"lock": lock}}
    told = {"outputs": outputs | {"outputFile": str(tmp_path / "output.json")}}
    assert resolve.main(["--model", "models:/lesions@champion", "--executor-input", json.dumps(told)]) == 0
    assert (tmp_path / "version").read_text() == "models:/lesions/1"
    for model, message in (("models:/lesions@none", "none"), ("lesions", "expected models:/NAME@ALIAS")):
        assert resolve.main(["--model", model, "--executor-input", json.dumps(told)]) == 0
        failed = FailedForGood.read(tmp_path / "lock")
        assert failed is not None
        assert message in failed.reason
