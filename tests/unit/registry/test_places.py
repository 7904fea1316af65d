"""Where the registry is: addresses, temporary copies of the project, a renamed project, what a machine lacks."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hymunet.commit import git_commit
from hymunet.mlflow_store import address
from hymunet.mlflow_store.experiment import experiment_id
from hymunet.mlflow_store.relocation import follow
from hymunet.registry import client
from hymunet.registry.card import SOURCES, card
from hymunet.registry.load import fetch

ROOT = Path(__file__).resolve().parents[3]
COPY = ".dvc/tmp/exps/standalone/tmpabc"
ADDRESSES = {  # MLFLOW_TRACKING_URI, MLFLOW_REGISTRY_URI, whether in DVC's temporary copy -> runs, registry
    "default": (None, None, False, "sqlite:///mlflow.db", "sqlite:///mlflow.db"),
    "default, in a copy": (None, None, True, "sqlite:///{home}/mlflow.db", "sqlite:///{home}/mlflow.db"),
    "own file, in a copy": ("sqlite:///db/x.db", None, True, "sqlite:///{home}/db/x.db", "sqlite:///{home}/db/x.db"),
    "with options, in a copy": ("sqlite:///x.db?timeout=9", None, True, *["sqlite:///{home}/x.db?timeout=9"] * 2),
    "absolute, in a copy": ("sqlite:////srv/x.db", None, True, "sqlite:////srv/x.db", "sqlite:////srv/x.db"),
    "another driver, in a copy": ("sqlite+pysqlite:///x.db", None, True, *["sqlite+pysqlite:///{home}/x.db"] * 2),
    "in memory, in a copy": ("sqlite:///:memory:", None, True, *["sqlite:///:memory:"] * 2),
    "database server, in a copy": ("postgresql://u@h/d", None, True, *["postgresql://u@h/d"] * 2),
    "another driver of one": ("postgresql+psycopg2://u@h/d", None, True, *["postgresql+psycopg2://u@h/d"] * 2),
    "server": ("http://host:5000", None, True, "http://host:5000", "http://host:5000"),
    "registry apart": ("http://host:5000", "http://other", False, "http://host:5000", "http://other"),
    "empty": ("", "", False, "sqlite:///mlflow.db", "sqlite:///mlflow.db"),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_addresses_outlive_a_temporary_copy_of_the_project(case, tmp_path, monkeypatch):
    tracking, registry, in_copy, runs, versions = ADDRESSES[case]
    for name, value in (("MLFLOW_TRACKING_URI", tracking), ("MLFLOW_REGISTRY_URI", registry)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    folder = tmp_path / COPY if in_copy else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)
    assert address.tracking_uri() == runs.format(home=tmp_path)
    assert address.registry_uri() == versions.format(home=tmp_path)
    local = in_copy and runs.startswith(("sqlite", "postgresql"))
    assert address.artifact_root(address.tracking_uri()) == (tmp_path / "mlruns" if local else None)


def places(database: Path) -> dict[str, str]:
    """Experiment -> where its artifacts go."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return dict(connection.execute("SELECT name, artifact_location FROM experiments").fetchall())


def test_no_experiment_leads_into_a_temporary_copy_of_the_project(tmp_path, monkeypatch, capfd):
    """Neither MLflow's own nor ours; one that an older program left so is set right, and told as what it is."""
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    copy = tmp_path / COPY
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with client.registry() as opened:
        experiment_id(opened)
    right = {"Default": f"{tmp_path}/mlruns/0", "hymunet": f"{tmp_path}/mlruns/hymunet"}
    assert places(tmp_path / "mlflow.db") == right
    monkeypatch.chdir(tmp_path)
    copy.rmdir()
    assert follow("sqlite:///mlflow.db") == 0
    with contextlib.closing(sqlite3.connect("mlflow.db")) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ? WHERE name = 'Default'", (f"{copy}/mlruns/0",))
    (tmp_path / "mlruns").mkdir(exist_ok=True)
    assert follow("sqlite:///mlflow.db") == 1
    assert places(tmp_path / "mlflow.db") == right
    told = capfd.readouterr().err
    assert "a temporary copy of the project has gone: 1 addresses" in told
    assert "has moved" not in told


REGISTERS = """
from hymunet.registry import client

with client.registry() as opened:
    run = opened.create_run(opened.create_experiment("hymunet")).info
    opened.log_text(run.run_id, "{}", "m/artifacts/model/model.json")
    opened.log_text(run.run_id, "x", "m/artifacts/model/model.safetensors")
    opened.log_text(run.run_id, "[]", "m/evaluation/metrics.json")
    opened.create_registered_model("moved")
    opened.create_model_version("moved", f"{run.artifact_uri}/m", run.run_id)
"""


@pytest.mark.parametrize("copied", [False, True])
def test_a_renamed_project_keeps_its_versions_and_writes_new_ones_where_it_is(copied, tmp_path, monkeypatch):
    old, new = tmp_path / "old name", tmp_path / "new name"
    old.mkdir()
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    subprocess.run([sys.executable, "-c", REGISTERS], cwd=old, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    shutil.copytree(old, new) if copied else old.rename(new)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{new}/mlflow.db")
    model, evaluation = fetch("models:/moved/1", tmp_path / "fetched")
    assert (model / "model.json").read_text() == "{}"
    assert (evaluation / "metrics.json").read_text() == "[]"
    with client.registry() as opened:
        experiment = opened.get_experiment_by_name("hymunet")
        again = opened.create_run(experiment.experiment_id).info
        assert again.artifact_uri.startswith(str(new))
    assert follow(f"sqlite:///{new}/mlflow.db") == 0, "once is enough"
    assert old.exists() == copied


# A name without http://, a folder, quotes that came along, a slip of the fingers.
NOWHERE = [
    "nonsense://x",
    "mlflow.example",
    "mlflow.example:5000",
    "127.0.0.1:5000",
    "./runs",
    '"http://mlflow"',
    "htp://a",
]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("postgresql+nodriver://u:secret@127.0.0.1/x", "MLflow at postgresql+nodriver://127.0.0.1/x"),
        ("mysql+pymysql://u:secret@127.0.0.1/x", "needs the package pymysql; pip install pymysql"),
        ("mysql://u:secret@127.0.0.1/x", "needs the package MySQLdb; pip install mysqlclient"),
        ("mssql+pyodbc://u:secret@127.0.0.1/x", "needs the package pyodbc; pip install pyodbc"),
        ("postgresql+asyncpg://u:secret@127.0.0.1/x", "needs the package asyncpg; pip install asyncpg"),
        *((uri, "no address of a server or a database; name one, as http://mlflow.example:5000 or") for uri in NOWHERE),
        ("sqlite:////proc/none/x.db", "MLflow at sqlite:////proc/none/x.db"),
    ],
)
def test_a_registry_that_cannot_be_opened_is_one_line(uri, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ValueError, match=r"^MLflow at") as refusal, client.registry() as opened:
        opened.search_registered_models()
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "secret" not in str(refusal.value)


def git(folder, *arguments):
    names = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("change", "dirty", "below"),
    [
        (lambda folder: None, False, False),
        (lambda folder: (folder / "dvc.lock").write_text("new"), False, False),
        (lambda folder: (folder / "untracked").write_text("x"), False, False),
        (lambda folder: (folder / "code.py").write_text("x = 2"), True, True),
        (lambda folder: (folder / "code.py").unlink(), True, True),
        (lambda folder: (folder / "sub/dvc.lock").write_text("new"), True, False),
    ],
)
def test_a_lock_that_the_pipeline_rewrites_makes_no_commit_dirty(change, dirty, below, tmp_path, monkeypatch):
    """below: of a project in a folder of the repository."""
    monkeypatch.delenv("HYMUNET_GIT_COMMIT", raising=False)
    (tmp_path / "sub").mkdir()
    for name in ("code.py", "dvc.lock", "sub/dvc.lock"):
        (tmp_path / name).write_text("x = 1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "x")
    change(tmp_path)
    assert git_commit(tmp_path).endswith("-dirty") == dirty
    assert len(git_commit(tmp_path).removesuffix("-dirty")) == 40
    assert git_commit(tmp_path / "sub").endswith("-dirty") == below


@pytest.mark.parametrize("name", ["results", "results [1]*", "übung"])
@pytest.mark.parametrize("at", ["top", "sub"])
def test_results_in_a_folder_that_is_named_make_no_commit_dirty(name, at, tmp_path, monkeypatch):
    monkeypatch.delenv("HYMUNET_GIT_COMMIT", raising=False)
    repository, elsewhere = tmp_path / "repository", tmp_path / "elsewhere"
    results = repository / "study" / name
    for file in (results / "cell.json", repository / "study/study.yaml", repository / "sub/code.py"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x = 1")
    git(repository, "init", "-q")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "x")
    root, link = {"top": repository, "sub": repository / "sub"}[at], tmp_path / "link"
    link.symlink_to(repository)
    for change in (lambda: (results / "cell.json").write_text("new"), (results / "cell.json").unlink):
        change()
        assert git_commit(root).endswith("-dirty")
        assert not git_commit(root, results, elsewhere).endswith("-dirty")
        assert not git_commit(root, link / "study" / name).endswith("-dirty")
        assert git_commit(root, results / "deeper", elsewhere).endswith("-dirty")
    (repository / "study/study.yaml").write_text("another")
    assert git_commit(root, results).endswith("-dirty"), "that is no result"


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.delenv("HYMUNET_GIT_COMMIT", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) is None


@pytest.mark.parametrize("source", [*SOURCES, "another"])
def test_the_card_names_the_images_that_the_model_saw(source):
    estimate = {"mean": 0.5, "low": 0.4, "high": 0.6}
    test = {**dict.fromkeys(("dice", "iou", "precision", "hd95", "hd95_fraction"), estimate), "images": 3, "missed": 0}
    evaluation = {"test": {**test, "pooled": {}}, "threshold": 0.5, "flips": False, "source": source}
    info = {"model": {"name": "unet"}, "image_size": 32, "validation_dice": 0.5, "epoch": 1}
    split = {"sizes": {"test": 3}, "protocol": "grouped", "seed": 0}
    text = card("x", info, evaluation, split, {})
    assert f"source `{source}`" in text
    assert ("dermoscopic" in text) == (source == "isic2018")
    assert ("polyp" in text) == (source == "kvasir_seg")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a home")
def test_a_user_without_a_home_can_ask_the_registry():
    """As in a container with a user id of its own."""
    command = [sys.executable, "-m", "hymunet.cli", "models", "list", "--name", "x"]
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    mine = ("HOME", "COV")  # and coverage's: that user cannot write what it measures
    environment = {key: value for key, value in os.environ.items() if not key.startswith(mine)}
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "PYTHONDONTWRITEBYTECODE": "1"}
    options = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]
    if subprocess.run([*options, sys.executable, "-c", "import hymunet"], cwd="/", env=environment).returncode:
        pytest.skip("this checkout or its Python may be read by its owner alone")
    done = subprocess.run([*options, *command], cwd="/", env=environment, capture_output=True, text=True)
    shutil.rmtree(folder)
    assert "Traceback" not in done.stderr, done.stderr
    assert "there is no registry at this path" in done.stderr
