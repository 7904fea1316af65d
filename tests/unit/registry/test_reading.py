"""Who reads a registry makes none: not where an address is mistyped, not in a file that holds something else."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from hymunet import cli
from hymunet.mlflow_store import errors
from hymunet.mlflow_store.relocation import COLUMNS, follow
from hymunet.registry import client
from pipelines import resolve

PARAMS = ["--params", str(Path(__file__).resolve().parents[3] / "profiles/paper.yaml")]
VERSION = "models:/hymunet@champion"
READING = {
    "list": ["models", "list", *PARAMS],
    "show": ["models", "show", *PARAMS],
    "card": ["models", "card", *PARAMS],
    "history": ["models", "history", *PARAMS],
    "page": ["models", "page", *PARAMS],
    "compare": ["models", "compare", *PARAMS],
    "verify": ["models", "verify", *PARAMS],
    "promote": ["models", "promote", *PARAMS],
    "approve": ["models", "approve", "--reason", "x", *PARAMS],
    "rollback": ["models", "rollback", *PARAMS],
    "copy": ["models", "copy", "--to", "other", *PARAMS],
    "predict": ["predict", "--model", VERSION, "--output", "masks", "image.png"],
    "export": ["export", "--model", VERSION, "--output", "model.onnx"],
    "serve": ["serve", "--model", VERSION],
}


def tables(*statements):
    def make(path):
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    return make


STATES = {  # how the file comes to be -> what is said of it
    "not there": (lambda path: None, "there is no registry at this path"),
    "empty": (lambda path: path.touch(), "there is no registry at this path"),
    "begun": (tables("CREATE TABLE experiments (x)"), "was begun and holds no model"),
    "another program's": (tables("CREATE TABLE notes (x)"), "holds another program's tables"),
    "no database": (lambda path: path.write_text("name,score\n" * 99), "no SQLite database"),
}


@pytest.fixture
def mistyped(tmp_path, monkeypatch, png):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs/mlflw.db")
    (tmp_path / "image.png").write_bytes(png)
    return tmp_path


@pytest.fixture
def png():
    import cv2
    import numpy as np

    return cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()


@pytest.mark.parametrize("action", READING)
def test_a_command_that_reads_makes_no_registry_at_a_mistyped_address(action, mistyped, capsys):
    assert cli.main(READING[action]) == 1
    said = capsys.readouterr().err
    assert f"{mistyped}/runs/mlflw.db: there is no registry at this path; register a model first, or name" in said
    assert sorted(path.name for path in mistyped.iterdir()) == ["image.png"]


@pytest.mark.parametrize("state", STATES)
def test_a_file_that_is_no_registry_is_left_as_it_is_by_who_reads(state, mistyped):
    make, words = STATES[state]
    path = mistyped / "runs/mlflw.db"
    path.parent.mkdir()
    make(path)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(ValueError, match=rf"^{path}: {words}"):
        resolve.version_of(VERSION)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


def test_a_registry_apart_is_read_without_a_store_of_runs(registry_home, registry, name, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{registry_home}/mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    with client.registry(make=False) as opened:
        assert [model.name for model in opened.search_registered_models(f"name = '{name}'")] == [name]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("there", "said"), [(False, ""), (True, "the project has moved, and this user may not write the file")]
)
def test_a_registry_of_another_user_is_left_as_it_is(registry, registry_home, there, said, capsys):
    """there: whether artifacts lie beside the copied file as well."""
    root = Path(tempfile.mkdtemp())
    (root / "closed/project").mkdir(parents=True)
    inside = root / "mlruns/0/run/artifacts"
    inside.mkdir(parents=True) if there else (root / "mlruns").mkdir()
    database = Path(shutil.copy(registry_home / "mlflow.db", root))
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in COLUMNS:
            connection.execute(f"UPDATE {table} SET {column} = '{root}/closed/project/mlruns/0/run/artifacts'")
    before = database.read_bytes()
    for path, mode in ((root, 0o755), (root / "closed", 0o700), (database, 0o644)):
        path.chmod(mode)
    try:
        os.setresuid(65534, 65534, 0)
        assert follow(f"sqlite:///{database}") == 0
    finally:
        os.setresuid(0, 0, 0)
        assert database.read_bytes() == before
        shutil.rmtree(root)
    assert said in capsys.readouterr().err


@pytest.mark.integration
def test_a_database_of_a_server_that_holds_no_registry_is_left_as_it_is(postgresql, monkeypatch):
    import sqlalchemy

    uri = postgresql.create_database("mistyped")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.replace("postgresql:", "postgresql+psycopg:"))
    with pytest.raises(ValueError, match=r"/mistyped: has no tables of MLflow; register a model first"):
        resolve.version_of(VERSION)
    engine = sqlalchemy.create_engine(uri.replace("postgresql:", "postgresql+psycopg:"))
    assert sqlalchemy.inspect(engine).get_table_names() == []


ONLY_READ = """
import sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
event.listen(Engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only = ON"))
from hymunet import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_registry_that_may_not_be_written_is_told_in_a_line(registry, name):
    """Held to by SQLite itself, since the superuser may write to every file."""
    registry.create_model_version(name, "/nowhere")
    words = ["models", "copy", "1", "--to", "elsewhere", "--name", name, *PARAMS]
    ended = subprocess.run([sys.executable, "-c", ONLY_READ, *words], capture_output=True, text=True)
    assert ended.returncode == 1
    address = os.environ["MLFLOW_TRACKING_URI"]
    told = "the database says: attempt to write a readonly database; may this user write to the file and to its folder?"
    assert ended.stderr == f"hymunet models: MLflow at {address}: {told}\n"


def test_what_may_not_be_written_is_not_tried_again():
    from mlflow.exceptions import MlflowException

    assert errors.for_good(MlflowException("(sqlite3.OperationalError) attempt to write a readonly database"))
    assert not errors.for_good(MlflowException("(sqlite3.OperationalError) database is locked"))
