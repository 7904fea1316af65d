"""A journal on its way to stores as people leave them: nothing waits long, nothing stays behind without a word."""

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from hymunet.training.tracking import delivery, worker
from hymunet.training.tracking.journal import Journal
from tests.support import closed

ROOT = Path(__file__).resolve().parents[3]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
DESCRIPTION = {"params": {"train.epochs": 3}, "tags": {}}


@pytest.fixture(scope="module")
def file_store(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(params=["a SQLite file", pytest.param("a server", marks=pytest.mark.slow)])
def store(request, file_store, monkeypatch):
    uri = file_store if request.param == "a SQLite file" else request.getfixturevalue("mlflow_server").uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    worker.prepare_mlflow()
    monkeypatch.setattr(worker, "BACKOFF", (0.05,))
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"states-{uuid.uuid4().hex[:8]}")
    monkeypatch.chdir(tmp_path)


def write(folder: Path, steps: range) -> None:
    with Journal(folder, DESCRIPTION) as journal:
        for step in steps:
            journal.metrics(step, {"loss": 1 / (step + 1)})
        journal.finish("FINISHED")


def client(uri):
    from mlflow import MlflowClient

    return MlflowClient(uri)


def noted_run(folder):
    return json.loads((folder / "delivered.json").read_text())["run_id"]


def steps_of(uri, run):
    return [point.step for point in client(uri).get_metric_history(run, "loss")]


def nothing(uri, folder):
    pass


def delete_run(uri, folder):
    client(uri).delete_run(noted_run(folder))


def delete_run_and_go_on(uri, folder):
    delete_run(uri, folder)
    write(folder, range(10, 15))


def delete_experiment(uri, folder):
    client(uri).delete_experiment(client(uri).get_run(noted_run(folder)).info.experiment_id)
    write(folder, range(10, 15))


def another_store(uri, folder):
    """Of the same address: it knows nothing of the run that was noted."""
    state = json.loads((folder / "delivered.json").read_text())
    client(uri).delete_run(state["run_id"])
    (folder / "delivered.json").write_text(json.dumps({**state, "run_id": uuid.uuid4().hex}))


STATES = {  # what happened since all was delivered -> exit code, steps then found in the run noted, what is said
    "nothing": (nothing, 0, range(10), "0 of 0 records delivered"),
    "its run deleted": (delete_run, 0, range(10), "was deleted there; to bring it back: mlflow runs restore --run-id"),
    "its run deleted, and more to tell": (
        delete_run_and_go_on,
        0,
        range(15),
        "was deleted there; all of it goes to another",
    ),
    "its experiment deleted": (
        delete_experiment,
        1,
        range(10),
        "was deleted there; bring it back (mlflow experiments restore --experiment-id",
    ),
    "another store": (another_store, 0, range(10), "all of it goes to another"),
}


@pytest.mark.parametrize("state", STATES)
def test_what_was_delivered_once_is_looked_for_again(state, store, tmp_path, capsys):
    happens, code, steps, words = STATES[state]
    folder = tmp_path / "journal" / f"key-{uuid.uuid4().hex[:8]}"
    write(folder, range(10))
    assert worker.deliver_all(folder.parent) == 0
    before = noted_run(folder)
    happens(store, folder)
    capsys.readouterr()
    begin = time.monotonic()
    assert worker.deliver_all(folder.parent) == code
    assert time.monotonic() - begin < 15
    said = "".join(capsys.readouterr())
    assert words in said
    assert "Traceback" not in said
    assert steps_of(store, noted_run(folder)) == list(steps)
    assert (noted_run(folder) == before) == ("another" not in words)


def test_a_run_that_is_deleted_while_its_training_tells_of_itself_is_followed_by_another(store, tmp_path):
    folder, said = tmp_path / f"key-{uuid.uuid4().hex[:8]}", []
    deliverer = delivery.Delivery(folder, said.append)
    with Journal(folder, DESCRIPTION) as journal:
        journal.metrics(0, {"loss": 1.0})
        assert worker.drain(deliverer) is None
        delete_run(store, folder)
        journal.metrics(1, {"loss": 0.5})
        assert worker.drain(deliverer) is None
    assert len(said) == 1
    assert "all of it goes to another" in said[0]
    assert steps_of(store, noted_run(folder)) == [0, 1]


SECRET = "s3cret/p@ss"
WITH_SECRETS = {  # an address as its owner writes it -> the same as files may hold it
    "a server": lambda address: (f"http://ann:{SECRET}@{address}", f"http://{address}"),
    "a token for a name": lambda address: (f"http://s3cret@{address}", f"http://{address}"),
    "a query": lambda address: (f"http://{address}?token={SECRET}", f"http://{address}?…"),
    "a database": lambda address: (f"postgresql://ann:{SECRET}@{address}/x", f"postgresql://{address}/x"),
    "a database's query": lambda address: (
        f"postgresql://{address}/x?password={SECRET}",
        f"postgresql://{address}/x?…",
    ),
}


@pytest.mark.parametrize("case", WITH_SECRETS)
def test_notes_of_a_delivery_hold_no_secret_and_those_of_earlier_versions_lose_theirs(case, tmp_path, monkeypatch):
    uri, public = WITH_SECRETS[case]("mlflow.example:5000")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    write(tmp_path / "key", range(3))
    noted = tmp_path / "key/delivered.json"
    noted.write_text(json.dumps({"uri": uri, "run_id": "abc", "offset": 7}))
    for _ in range(2):
        deliverer = delivery.Delivery(tmp_path / "key")
        assert (deliverer.run_id, deliverer.offset) == ("abc", 7), "it is the same store"
        assert json.loads(noted.read_text()) == {"uri": public, "run_id": "abc", "offset": 7}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://another.example:5000")
    noted.write_text(json.dumps({"uri": uri, "run_id": "abc", "offset": 7}))
    assert delivery.Delivery(tmp_path / "key").run_id == "", "that was another store"
    assert "s3cret" not in noted.read_text()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "7", '{"uri": 7}', '{"uri": "sqlite:///mlflow.db"}'])
def test_notes_that_are_none_are_as_if_there_were_none(content, tmp_path):
    write(tmp_path / "key", range(3))
    (tmp_path / "key/delivered.json").write_text(content)
    assert delivery.Delivery(tmp_path / "key").offset == 0


def test_a_database_with_a_password_is_delivered_to_and_no_file_and_no_line_has_it(
    postgresql, tmp_path, monkeypatch, capfd
):
    address = postgresql.create_database(f"secret_{uuid.uuid4().hex[:8]}")
    uri = address.replace("hymunet@", "hymunet:hunter2secret@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    folder = tmp_path / "journal/key"
    write(folder, range(10))
    for words in ("12 of 12 records delivered", "0 of 0 records delivered"):
        capfd.readouterr()
        assert worker.deliver_all(folder.parent) == 0
        said = "".join(capfd.readouterr())
        assert words in said
        assert "hunter2secret" not in said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert worker.deliver_all(folder.parent) == 0
    assert " 0 of 0 records" in capfd.readouterr().out, "it is the same store without the password"
    assert steps_of(uri, noted_run(folder)) == list(range(10))
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert folder / "delivered.json" in files
    assert not [file for file in files if b"hunter2secret" in file.read_bytes()]


@pytest.mark.slow
def test_a_database_that_was_deleted_between_two_trainings_gets_all_of_both(tmp_path):
    uri, folders = f"sqlite:///{tmp_path}/mlflow.db", [tmp_path / "journal" / f"key-{name}" for name in ("one", "two")]
    command = [sys.executable, "-m", "hymunet.training.tracking.worker"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT)}
    for folder in folders:
        write(folder, range(10))
        (tmp_path / "mlflow.db").unlink(missing_ok=True)
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert f"key-one: its run {uuid.UUID(noted_run(folders[0])).hex}" not in done.stdout, "that is the new one"
    assert f"is not in {uri}; all of it goes to another" in done.stdout
    for folder in folders:
        assert steps_of(uri, noted_run(folder)) == list(range(10))


REFUSED = {
    "no driver": ("mysql+pymysql://u:secret@127.0.0.1/x", "needs the package pymysql; pip install pymysql"),
    "no such kind": ("nonsense+x://h", "nonsense"),
    "a folder that cannot be": ("sqlite:////proc/none/x.db", "/proc/none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_store_that_cannot_be_opened_is_one_line_at_once(case, tmp_path, monkeypatch, capsys):
    uri, words = REFUSED[case]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    write(tmp_path / "journal/key", range(3))
    begin = time.monotonic()
    assert worker.deliver_all(tmp_path / "journal") == 1
    assert time.monotonic() - begin < 15
    said = capsys.readouterr()
    assert words in said.err
    assert "records wait" in said.err
    assert len(said.err.splitlines()) == 1
    assert "secret" not in said.out + said.err


def test_a_database_that_may_not_be_written_to_is_one_line(tmp_path):
    """Not MLflow's traceback of it."""
    write(tmp_path / "journal/key", range(3))
    worker_of = [sys.executable, "-m", "hymunet.training.tracking.worker"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    subprocess.run(worker_of, cwd=tmp_path, env=environment, check=True, capture_output=True)
    write(tmp_path / "journal/key", range(3, 6))
    command = closed.command([*worker_of], tmp_path / "mlflow.db")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "attempt to write a readonly database; may this user write to the file" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_nothing_to_deliver_is_said(tmp_path, monkeypatch, capsys):
    """Where no training ran, and in a folder without journals; a named one that is not there is a mistake."""
    monkeypatch.chdir(tmp_path)
    assert worker.deliver_all(None) == 0
    assert "nothing to deliver: journal holds no journal" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert worker.deliver_all(tmp_path / "empty") == 0
    assert f"nothing to deliver: {tmp_path}/empty holds no journal" in capsys.readouterr().out
    with pytest.raises(ValueError, match="none: no such folder"):
        worker.deliver_all(tmp_path / "none")
