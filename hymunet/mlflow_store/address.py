"""Where MLflow is: MLFLOW_TRACKING_URI, by default a SQLite file in the project's root."""

import os
import re
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from hymunet.addresses import without_secrets

DEFAULT_URI = "sqlite:///mlflow.db"
RUN_KEY_TAG = "hymunet.run_key"
EXPERIMENT = "hymunet"  # where MLFLOW_EXPERIMENT_NAME names no other
TEMPORARY = (".dvc", "tmp", "exps")  # below it `dvc exp run --temp` and `--queue` copy the project, and remove the copy
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # whose artifacts MLflow puts into the working folder


def tracking_uri() -> str:
    return _lasting(os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)


def public_tracking_uri() -> str:
    """As files and messages show it."""
    return without_secrets(tracking_uri())


def registry_uri() -> str:
    """MLFLOW_REGISTRY_URI, for teams that keep the registry apart; else where the runs are."""
    named = os.environ.get("MLFLOW_REGISTRY_URI")
    return _lasting(named) if named else tracking_uri()


def without_a_home() -> None:
    """MLflow cannot be imported by a user without a home folder, as in a container with a user id of its own."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()


def artifact_root(uri: str) -> Path | None:
    """Where the artifacts of a database belong in a temporary copy of the project: in the project's own folder.

    None, which is MLflow's default, elsewhere, and where a server says where artifacts are.
    """
    home = project_root(Path.cwd())
    database = urlsplit(uri).scheme.partition("+")[0] in DATABASES
    return home / "mlruns" if database and home != Path.cwd() else None


def project_root(folder: Path) -> Path:
    """The project that a temporary copy of DVC's was made from; of any other folder, itself."""
    parts = folder.parts
    for start in range(len(parts) - len(TEMPORARY), 0, -1):
        if parts[start : start + len(TEMPORARY)] == TEMPORARY:
            return Path(*parts[:start])
    return folder


def _lasting(uri: str) -> str:
    """A relative SQLite file in a temporary copy of the project is the project's own."""
    found = re.fullmatch(r"(?P<kind>sqlite(\+\w+)?:///)(?P<path>[^/:?][^?]*)(?P<rest>\?.*)?", uri)
    home = project_root(Path.cwd())
    if not found or home == Path.cwd():
        return uri
    return f"{found['kind']}{home / found['path']}{found['rest'] or ''}"
