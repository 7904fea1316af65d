"""MLflow's SQLite file in every state that people have it in: made whole, mended, or refused with what to do."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from hymunet.mlflow_store import database
from hymunet.mlflow_store.relocation import COLUMNS
from hymunet.mlflow_store.store import prepare
from hymunet.registry import client

ROOT = Path(__file__).resolve().parents[3]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "mlflow.db"
    database.ready(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """Made by MLflow itself, as far as a change of the schema in the middle of its history."""
    import sqlalchemy
    from alembic import command
    from mlflow.store.db.utils import InitialBase, _get_alembic_config

    path = tmp_path_factory.mktemp("half") / "mlflow.db"
    config = _get_alembic_config(f"sqlite:///{path}")
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    InitialBase.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "bd07f7e963c5")
    engine.dispose()
    return path


def altered(source, path, *statements):
    shutil.copy(source, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


REMNANT = "CREATE TABLE _alembic_tmp_metrics (key TEXT)"
EXPERIMENT = "INSERT INTO experiments (experiment_id, name) VALUES (7, 'mine')"
STATES = {  # how the file comes to be -> whether it is made, mended, left or refused, and the words for it
    "none": (lambda path, whole, half: None, "made", ""),
    "empty": (lambda path, whole, half: path.touch(), "made", ""),
    "a header alone": (
        lambda path, whole, half: altered("/dev/null", path, "CREATE TABLE x (y)", "DROP TABLE x"),
        "mended",
        "",
    ),
    "whole": (lambda path, whole, half: shutil.copy(whole, path), "left", ""),
    "begun": (lambda path, whole, half: shutil.copy(half, path), "mended", ""),
    "killed while it was begun": (lambda path, whole, half: altered(half, path, REMNANT), "mended", ""),
    "an older MLflow's": (
        lambda path, whole, half: altered(half, path, EXPERIMENT),
        "refused",
        "made by an older MLflow than .*: mlflow db upgrade sqlite:///",
    ),
    "killed while it was brought up to date": (
        lambda path, whole, half: altered(half, path, EXPERIMENT, REMNANT),
        "refused",
        "a change of its tables was broken off in the middle; restore it from a backup",
    ),
    "a newer MLflow's": (
        lambda path, whole, half: altered(
            whole, path, EXPERIMENT, "UPDATE alembic_version SET version_num = 'ffffffffffff'"
        ),
        "refused",
        "made by a newer MLflow than",
    ),
    "no database": (lambda path, whole, half: path.write_text("name,score\n" * 200), "refused", "no SQLite database"),
    "cut off": (
        lambda path, whole, half: path.write_bytes(whole.read_bytes()[:6000]),
        "refused",
        "no SQLite database, or a damaged one",
    ),
    "another program's": (
        lambda path, whole, half: altered("/dev/null", path, "CREATE TABLE notes (text)"),
        "left",
        "",
    ),
}


MADE_ELSEWHERE = ("a header alone", "begun")  # as another row in the end; MLflow takes seconds to make its tables


@pytest.mark.parametrize(
    "state", [pytest.param(state, marks=pytest.mark.slow) if state in MADE_ELSEWHERE else state for state in STATES]
)
def test_a_file_in_any_state_is_made_whole_or_explained(state, whole, half, tmp_path, monkeypatch, capsys):
    prepare, outcome, words = STATES[state]
    monkeypatch.setattr(database, "QUIET", 0.2)
    path = tmp_path / "with space" / "mlflow.db"
    path.parent.mkdir()
    prepare(path, whole, half)
    before = path.read_bytes() if path.exists() else b""
    if outcome == "refused":
        with pytest.raises(ValueError, match=words) as refusal:
            database.ready(f"sqlite:///{path}")
        assert str(refusal.value).startswith(str(path))
        assert "\n" not in str(refusal.value)
    else:
        database.ready(f"sqlite:///{path}")
    if outcome in ("left", "refused"):
        assert path.read_bytes() == before
    else:
        assert database.judge(path).kind == "whole"
        aside = path.with_name("mlflow.db.unfinished")
        assert aside.exists() == (outcome == "mended")
        assert ("holds no run and no model" in capsys.readouterr().err) == (outcome == "mended")
        assert outcome == "made" or aside.read_bytes() == before
    assert not path.with_name("mlflow.db.new").exists()


def program(code: str, folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment, stderr=subprocess.PIPE)


OPENS = """
from hymunet.registry.client import registry
with registry() as client:
    client.create_registered_model(f"model-{__import__('os').getpid()}")
    print(len(client.search_experiments()))
"""


def test_programs_that_open_it_first_at_once_find_one_database(tmp_path):
    running = [program(OPENS, tmp_path) for _ in range(2)]
    for process in running:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error.decode()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM registered_models")}
    assert names == {f"model-{process.pid}" for process in running}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


KILLED = {  # the program, the file it writes, and how large that is when the fault falls
    "ours, as it begins": ("from hymunet.mlflow_store.database import *; ready('sqlite:///mlflow.db')", ".new", 0),
    "ours, in the middle": (
        "from hymunet.mlflow_store.database import *; ready('sqlite:///mlflow.db')",
        ".new",
        150_000,
    ),
    "MLflow's": ("import mlflow; mlflow.MlflowClient().search_experiments()", "", 150_000),
}


@pytest.mark.parametrize(
    "who", [pytest.param("ours, as it begins", marks=pytest.mark.slow), "ours, in the middle", "MLflow's"]
)
def test_a_program_that_is_killed_while_it_makes_the_file_leaves_nothing_that_stays_broken(who, tmp_path, monkeypatch):
    monkeypatch.setattr(database, "QUIET", 0.3)
    code, end, size = KILLED[who]
    path, written = tmp_path / "mlflow.db", tmp_path / f"mlflow.db{end}"
    process = program(code, tmp_path)
    while process.poll() is None and not (written.exists() and written.stat().st_size >= size):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert written.exists(), process.stderr.read()
    assert end == "" or not path.exists(), "a name is given to what is whole"
    database.ready(f"sqlite:///{path}")
    assert database.judge(path).kind == "whole"
    assert not path.with_name("mlflow.db.new").exists()


def test_a_client_opens_the_store_that_was_made_ready_whatever_another_thread_sets_meanwhile(tmp_path, monkeypatch):
    """A server that follows an alias and a program's own look at a registry are threads of one process."""
    import mlflow

    mine, other = (f"sqlite:///{tmp_path}/{name}.db" for name in ("mine", "other"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mine)

    def prepared_while_another_looks(uri, make):
        prepare(uri, make)
        os.environ["MLFLOW_TRACKING_URI"] = other
        mlflow.set_tracking_uri(other)

    monkeypatch.setattr(client, "prepare", prepared_while_another_looks)
    with client.registry() as opened:
        opened.create_registered_model("it")
    assert opened.tracking_uri == mine
    assert [model.name for model in opened.search_registered_models()] == ["it"]
    assert not (tmp_path / "other.db").exists()


def test_every_place_of_an_address_is_known(whole):
    """A column of addresses that a new MLflow adds is to be followed, or named here."""
    others = {("workspaces", "default_artifact_root"), ("workspaces", "trace_archival_location")}
    others |= {("evaluation_dataset_records", "source"), ("mcp_server_versions", "source")}  # not of artifacts
    others |= {("datasets", "dataset_source")}
    with closing(sqlite3.connect(whole)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {(table, row[1]) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")}
    assert set(COLUMNS) <= columns
    ends = ("_uri", "_location", "_root", "source")
    assert {column for column in columns if column[1].endswith(ends)} == set(COLUMNS) | others
