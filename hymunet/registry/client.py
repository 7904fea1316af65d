"""The MLflow server, or the SQLite file, that holds the registry: MLFLOW_TRACKING_URI, by default `sqlite:///mlflow.db`."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_URI = "sqlite:///mlflow.db"
EXPERIMENT = "hymunet"
RUN_KEY_TAG = "hymunet.run_key"
BENEATH = {"boto3", "botocore", "requests", "sqlalchemy", "urllib3"}  # whose errors MLflow lets through
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


class Unavailable(ValueError, ConnectionError):
    """The registry did not answer, or failed: worth another try."""


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def public_uri() -> str:
    return without_secrets(tracking_uri())


def without_secrets(text: str) -> str:
    """Addresses in the text lose the user's name and password."""
    return re.sub(r"//[^/@\s]*@", "//", text)


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

    import mlflow
    from mlflow.exceptions import MlflowException

    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(tracking_uri())
    mlflow.set_registry_uri(tracking_uri())
    try:
        yield mlflow.MlflowClient()
    except Exception as error:
        if not isinstance(error, MlflowException) and type(error).__module__.partition(".")[0] not in BENEATH:
            raise
        reason = " ".join(without_secrets(str(error)).split())[:300]
        if "Max retries exceeded" in reason:
            reason = "no answer; is the address right and the server up?"
        kind = ValueError if getattr(error, "error_code", "") in REFUSALS else Unavailable
        raise kind(f"MLflow at {public_uri()}: {reason}") from None
