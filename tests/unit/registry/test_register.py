"""Registration: one version per content, complete about itself, loadable anywhere by code and safetensors alone."""

import base64
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hymunet.data.acquire.synthetic import draw
from hymunet.inference import Segmenter
from hymunet.registry import client, seal
from hymunet.registry.fetch import fetched
from hymunet.registry.load import open_segmenter
from hymunet.registry.lock import OTHER, lock_hash, tree_md5
from hymunet.registry.register import register
from hymunet.registry.sign import sign
from hymunet.registry.single import signature
from hymunet.registry.spent import spent
from hymunet.registry.verify import verify

NAME = "registered-once"


def run(name, project):
    return outcome(name, project).statement


def outcome(name, project):
    return register(
        name,
        project / "artifacts/model",
        project / "reports/evaluation",
        project / "data/split/split.json",
        project / "reports/registration",
        project,
    )


@pytest.fixture
def project(evaluated_project, tmp_path):
    """Of a training of its own: a version hangs on the run with its key, and other tests register this model, too."""
    root = Path(shutil.copytree(evaluated_project, tmp_path / "project"))
    model = root / "artifacts/model/model.json"
    model.write_text(json.dumps({**json.loads(model.read_text()), "run_key": uuid.uuid4().hex}))
    return root


@pytest.fixture(scope="module")
def once(evaluated_project, tmp_path_factory):
    """A project with a registry whose one version is of it, and a copy of both: a registration takes ten seconds."""
    home = tmp_path_factory.mktemp("once")
    project = Path(shutil.copytree(evaluated_project, home / "project"))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(home)
        patched.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
        assert run(NAME, project).version == 1
    return home, Path(shutil.copytree(home, tmp_path_factory.mktemp("copy") / "once"))


@pytest.fixture
def there(once, monkeypatch):
    """That registry, opened, and that project, as they were, in the same place: MLflow remembers where a run is."""
    home, copy = once
    for part in ("project", "mlruns"):
        shutil.rmtree(home / part)
        shutil.copytree(copy / part, home / part)
    with closing(sqlite3.connect(copy / "mlflow.db")) as before, closing(sqlite3.connect(home / "mlflow.db")) as now:
        before.backup(now)
    monkeypatch.chdir(home)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
    with client.registry() as opened:
        yield opened, home / "project"


def test_the_same_content_gives_one_version_which_says_all_about_itself(registry, project):
    made = tree_md5(project / "artifacts/model")
    (project / "dvc.lock").write_text(f"stages: {{train: {{cmd: x, outs: [{{path: model, md5: {made}}}]}}}}\n")
    experiment = registry.create_experiment("elsewhere")
    info = json.loads((project / "artifacts/model/model.json").read_text())
    tags = {"hymunet.run_key": info["run_key"], "hymunet.device": "NVIDIA H200"}
    training = registry.create_run(experiment, tags=tags).info.run_id
    for epoch, minute in enumerate((60, 100, 140, 1000, 1040)):  # 40 minutes an epoch, and a night between two
        registry.log_metric(training, "epoch", epoch + 1, minute * 60_000, epoch)

    first, second = run("once", project), run("once", project)

    assert first == second
    (version,) = registry.search_model_versions("name = 'once'")
    assert version.run_id == training, "the version hangs on the training's own run, wherever that is"
    assert registry.get_model_version_by_alias("once", "challenger").version == version.version
    written = json.loads((project / "reports/registration/registration.json").read_text())
    assert written["uri"] == f"models:/once/{version.version}"
    assert (written["version"], written["content"]) == (int(version.version), version.tags["hymunet.content"])

    metrics = json.loads((project / "reports/evaluation/metrics.json").read_text())
    dice = metrics["test"]["dice"]
    for suffix, key in (("", "mean"), (".low", "low"), (".high", "high")):
        assert float(version.tags[f"test.dice{suffix}"]) == pytest.approx(dice[key], abs=1e-6)
    assert version.tags["hymunet.data_sha256"] == info["data_sha256"]
    assert version.tags["hymunet.split_sha256"] == info["split_sha256"]
    assert version.tags["hymunet.test_images_sha256"] == metrics["test_images_sha256"]
    assert version.tags["hymunet.dvc_lock_sha256"] == lock_hash(project / "dvc.lock", project / "artifacts/model")
    assert len(version.tags["hymunet.dvc_lock_sha256"]) == 64
    assert version.tags["hymunet.git_commit"] == "unknown", "the copy is no repository"
    assert f"{dice['mean']:.4f}" in version.description
    assert "not a medical device" in version.description
    assert "Training took 4.7 hours over 5 epochs on NVIDIA H200. Energy was not measured." in version.description
    assert registry.get_run(training).data.metrics["test/dice"] == pytest.approx(dice["mean"])
    images = metrics["test_images_sha256"][:36]
    scores = registry.get_logged_model(version.tags["hymunet.logged_model"]).metrics
    assert {score.key: score.value for score in scores}["test/dice"] == pytest.approx(dice["mean"])
    assert {score.dataset_digest for score in scores} == {images}
    (tested,) = registry.get_run(training).inputs.dataset_inputs
    assert (tested.dataset.digest, tested.dataset.name) == (images, f"{metrics['source']} test images")
    folder = version.source.rpartition("/")[2]
    assert f"{folder}/evaluation/report.html" in {
        item.path for item in registry.list_artifacts(training, f"{folder}/evaluation")
    }


@pytest.mark.parametrize(
    ("watts", "said"), [([300.0, 500.0], "1.3 kWh"), ([30.0], "100.0 Wh"), ([], "Energy was not measured")]
)
def test_energy_is_the_mean_power_over_the_trainings_time(registry, watts, said):
    training = registry.create_run(registry.create_experiment(f"energy {said}")).info.run_id
    for epoch in range(5):  # 40 minutes each
        registry.log_metric(training, "epoch", epoch + 1, (epoch + 1) * 2_400_000, epoch)
    for step, value in enumerate(watts):
        registry.log_metric(training, "system/gpu_watts", value, step * 15_000, step)
    assert spent(registry, training).endswith(f"Its GPUs used {said}." if watts else f"{said}.")


def test_other_content_is_another_version_and_leaves_the_first_alone(there):
    registry, project = there
    metrics = project / "reports/evaluation/metrics.json"
    first = metrics.read_bytes()
    metrics.write_text(json.dumps({**json.loads(first), "threshold": 0.4}))
    assert run(NAME, project).version == 2
    sources = {registry.get_model_version(NAME, str(version)).source for version in (1, 2)}
    assert len(sources) == 2
    assert int(registry.get_model_version_by_alias(NAME, "challenger").version) == 2
    metrics.write_bytes(first)
    assert run(NAME, project).version == 1, "the first content again is the first version, now the challenger"
    assert int(registry.get_model_version_by_alias(NAME, "challenger").version) == 1


def nothing(registry, project):
    pass


def a_colleague_s(registry, project):
    run_id = registry.get_model_version(NAME, "1").run_id
    registry.create_model_version(NAME, "elsewhere", run_id)
    registry.set_registered_model_alias(NAME, "challenger", "2")


def no_challenger(registry, project):
    registry.delete_registered_model_alias(NAME, "challenger")


def version_deleted(registry, project):
    registry.delete_model_version(NAME, "1")


def model_deleted(registry, project):
    registry.delete_registered_model(NAME)


def record_lost(registry, project):
    a_colleague_s(registry, project)
    (project / "reports/registration/registration.json").unlink()


def of_another_registry(registry, project):
    record = project / "reports/registration/registration.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "registry": "http://elsewhere", "version": 9}))


HAPPENED = {  # since the model was registered -> its version now, the challenger, whether the record was written again
    "nothing": (nothing, 1, 1, False),
    "another one was registered by somebody else": (a_colleague_s, 1, 2, False),
    "the alias was deleted": (no_challenger, 1, 1, True),
    "the version was deleted": (version_deleted, 2, 2, True),
    "the model was deleted": (model_deleted, 1, 1, True),
    "the record was lost": (record_lost, 1, 1, True),
    "the record is of another registry": (of_another_registry, 1, 1, True),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow) if case == "the model was deleted" else case for case in HAPPENED],
)
def test_asking_again_changes_what_is_not_so_any_more_and_nothing_else(there, case):
    registry, project = there
    happens, version, challenger, written = HAPPENED[case]
    record = project / "reports/registration/registration.json"
    happens(registry, project)
    before = record.stat().st_ino if record.exists() else None
    done = outcome(NAME, project)
    assert (done.statement.version, done.challenger) == (version, challenger)
    assert json.loads(record.read_text())["version"] == version
    assert (record.stat().st_ino != before) == written
    alias = registry.get_model_version_by_alias(NAME, "challenger")
    assert int(alias.version) == challenger


def test_a_version_lists_its_files_and_software_and_is_signed(there, tmp_path, monkeypatch):
    registry, project = there
    key = Ed25519PrivateKey.generate()
    file = tmp_path / "key.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    monkeypatch.setenv(seal.KEY, str(file))
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()

    def gate():
        version = registry.get_model_version(NAME, "1")
        with fetched(registry, version, whole=True) as (evidence, folder):
            names = set(json.loads((folder / seal.MANIFEST).read_text()))
            return signature(evidence, [public]), names, (folder / "sbom.json").read_text()

    judged, names, software = gate()
    assert (judged.passed, judged.figure) == (False, "unsigned")
    assert sign(NAME, dry_run=True) == ("1", public)
    assert not gate()[0].passed
    assert sign(NAME) == ("1", public)
    assert gate()[0].passed
    assert {"evaluation/per_image.csv", "card.md", "sbom.json", "code/hymunet/inference.py", "MLmodel"} <= names
    assert "artifacts/model/model.safetensors" in names
    listed = {component["name"] for component in json.loads(software)["components"]}
    assert {"torch", "safetensors", "mlflow"} <= listed

    record = project / "reports/evaluation/metrics.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "threshold": 0.45}))
    signed = registry.get_model_version(NAME, str(run(NAME, project).version))
    with fetched(registry, signed, whole=True) as (evidence, _):
        assert evidence.seal == seal.Seal((), public), "with a key there, what is registered is signed"

    registry.set_registered_model_alias(NAME, "champion", "1")
    code = Path(registry.get_model_version(NAME, "1").source) / "code/hymunet/inference.py"
    code.write_bytes(code.read_bytes().replace(b"BATCH_SIZE = 16", b"BATCH_SIZE = 17"))
    assert gate()[0].figure == "code/hymunet/inference.py was changed"
    (found,) = verify(NAME).findings
    assert (found.text, found.mended) == ("version 1: code/hymunet/inference.py was changed", None)
    with pytest.raises(ValueError, match="version 1 is not signed: code/hymunet/inference.py was changed"):
        sign(NAME, "1")


FRESH = """
import json, socket, threading, time, urllib.error, urllib.request
import mlflow, numpy as np, uvicorn
from mlflow.pyfunc.scoring_server import init

model = mlflow.pyfunc.load_model("models:/registered-once@challenger")
images = np.load("images.npy")
np.save("masks.npy", model.predict(images))

listener = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(init(model), log_level="error"))
threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
while not server.started:
    time.sleep(0.05)

def ask(inputs):
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/invocations"
    body = json.dumps({"inputs": inputs}).encode()
    return urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"}))

np.save("answer.npy", np.array(json.load(ask(images.tolist()))["predictions"], np.uint8))
try:
    ask([[1, 2], [3, 4]])
except urllib.error.HTTPError as error:
    assert error.code == 400, error.code
else:
    raise AssertionError("took what is no image")

import hymunet
print(hymunet.__file__)
"""


def test_a_fresh_process_loads_the_version_with_its_own_code_and_serves_it(there, tmp_path):
    _, project = there
    home = project.parent
    images = np.stack([draw(index, 80, seed=7)[0][:, :56] for index in range(3)])
    np.save(tmp_path / "images.npy", images)
    environment = {**os.environ, "PYTHONPATH": "", "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"}
    done = subprocess.run(
        [sys.executable, "-c", FRESH], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert str(home) in done.stdout, "the code came with the version"

    expected = np.stack(Segmenter.load(project / "artifacts/model").masks(list(images)))
    assert expected.shape == (3, 80, 56)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(np.load(tmp_path / "masks.npy"), expected)
    np.testing.assert_array_equal(np.load(tmp_path / "answer.npy"), expected)

    files = [path for path in home.glob("mlruns/*/*/artifacts/**/*") if path.is_file()]
    assert files
    assert not [path for path in files if path.suffix in (".pkl", ".pt", ".pth") or path.read_bytes()[:1] == b"\x80"]


@pytest.mark.parametrize("missing", ["artifacts/model/model.json", "reports/evaluation/metrics.json"])
def test_a_missing_input_is_named(registry, project, missing):
    (project / missing).unlink()
    with pytest.raises(ValueError, match=f"{missing}: no such file"):
        run("refused", project)


def test_a_server_that_is_down_is_one_line_soon(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ValueError, match=r"^MLflow at http://127\.0\.0\.1:9: no answer; .*up\?$"):
        run("down", project)
    assert not (project / "reports/registration").exists()


def test_the_lock_hash_is_of_the_stages_before_registration(tmp_path):
    lock, model, other = tmp_path / "dvc.lock", tmp_path / "model", tmp_path / "other"
    for folder, content in ((model, "weights"), (other, "others")):
        (folder / "a").mkdir(parents=True)
        for name in ("model.json", "a/b", "a-b"):
            (folder / name).write_text(content)
    assert lock_hash(lock, model) == "none"
    made, hashes = f"{{md5: {tree_md5(model)}}}", []
    for text in (
        f"stages: {{train: {{outs: [{made}]}}}}",
        f"schema: '2.0'\nstages:\n  register: {{outs: [{{md5: b}}]}}\n  train: {{outs: [{made}]}}\n",
        f"stages: {{train: {{cmd: c, outs: [{made}]}}}}",
    ):
        lock.write_text(text)
        hashes.append(lock_hash(lock, model))
        assert lock_hash(lock, other) == OTHER
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_folder_is_hashed_as_dvc_does(tmp_path, monkeypatch):
    from dvc.repo import Repo

    folder = tmp_path / "model"
    for name in ("model.json", "a/b", "a-b", "a.b/c", "ü"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    with Repo.init(no_scm=True) as repo:
        repo.add("model")
    assert f"md5: {tree_md5(folder)}\n" in (tmp_path / "model.dvc").read_text()


READ = ("artifacts/model/model.safetensors", "artifacts/model/model.json", "evaluation/metrics.json", "manifest.json")


def test_a_version_of_which_a_file_was_changed_is_not_opened(there):
    registry, _ = there
    folder = Path(registry.get_model_version_download_uri(NAME, "1").removeprefix("file://"))
    for name in READ:
        path, whole = folder / name, (folder / name).read_bytes()
        path.write_bytes(whole.replace(b"0.5", b"0.4") + b"\n")
        with pytest.raises(ValueError, match=f"models:/{NAME}/1: {name} changed since it was registered"):
            open_segmenter(f"models:/{NAME}/1")
        path.write_bytes(whole)
    assert open_segmenter(f"models:/{NAME}/1")


@pytest.mark.parametrize("gone", [("test",), ("test", "dice"), ("test", "hd95", "low")])
def test_an_evaluation_of_another_version_of_this_program_is_refused_by_what_it_lacks(gone, registry, project):
    path = project / "reports/evaluation/metrics.json"
    record = json.loads(path.read_text())
    place = record
    for key in gone[:-1]:
        place = place[key]
    del place[gone[-1]]
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"metrics.json: holds no test\..*; run evaluate again"):
        run("another-version", project)
