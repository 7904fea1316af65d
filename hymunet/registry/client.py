"""The MLflow server, or the SQLite file, that holds the registry (hymunet/mlflow_address.py says which)."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hymunet.addresses import without_secrets
from hymunet.mlflow_address import registry_uri, tracking_uri, without_a_home
from hymunet.registry.relocation import follow

if TYPE_CHECKING:
    from mlflow import MlflowClient

BENEATH = {"boto3", "botocore", "requests", "sqlalchemy", "sqlite3", "urllib3"}  # whose errors MLflow lets through
REFUSALS = {  # what MLflow says no to; any other error may be gone at the next try
    "BAD_REQUEST",
    "ENDPOINT_NOT_FOUND",
    "FEATURE_DISABLED",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "UNAUTHENTICATED",
}
CHALLENGER, CHAMPION = "challenger", "champion"
REGISTER = "dvc repro -fs register"  # asks the registry, whatever DVC remembers of another one


class Unavailable(ValueError, ConnectionError):
    """The registry did not answer, or failed: worth another try."""


def public_uri() -> str:
    """The registry's address as records and messages show it."""
    return without_secrets(registry_uri())


@contextmanager
def registry() -> Iterator["MlflowClient"]:
    """A client; what it refuses or does not answer becomes a ValueError of one line, within two minutes."""
    for name, value in {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(name, value)

    without_a_home()

    import mlflow
    from mlflow.exceptions import MlflowException

    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(tracking_uri())
    try:
        yield _opened()
    except ModuleNotFoundError as error:
        raise ValueError(f"MLflow at {public_uri()} needs the package {error.name}; install it, with pip") from None
    except Exception as error:
        if not isinstance(error, MlflowException) and type(error).__module__.partition(".")[0] not in BENEATH:
            raise
        reason = " ".join(without_secrets(str(error)).split())[:300]
        if "Max retries exceeded" in reason:
            reason = "no answer; is the address right and the server up?"
        kind = ValueError if getattr(error, "error_code", "") in REFUSALS else Unavailable
        raise kind(f"MLflow at {public_uri()}: {reason}") from None


def _opened() -> "MlflowClient":
    """Its registry is handed to the client alone: set for the process, it would outlast MLFLOW_REGISTRY_URI."""
    import mlflow

    try:
        follow(registry_uri())
        return mlflow.MlflowClient(registry_uri=registry_uri())
    except OSError as error:
        raise ValueError(f"MLflow at {public_uri()}: {error}") from None
