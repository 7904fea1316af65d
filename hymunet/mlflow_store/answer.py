"""Whether a server answers, asked before MLflow does: its client is silent for two minutes about one that is down."""

import re
import sys
import time
from typing import Any

from hymunet.addresses import without_secrets
from hymunet.mlflow_store.address import DATABASES
from hymunet.mlflow_store.errors import answered, in_words, is_mlflow_s

PATIENCE, TIMEOUT, PAUSE = 8.0, 5, 0.5  # seconds: for one that starts, for one answer, between two tries
HEALTHY, VERSION = "OK", re.compile(r"\d+\.\d+")  # what MLflow says at /health, and how it begins at /version
STARTING = (502, 503, 504)  # what stands before a server says of one that is not up
PASSING = ("refused", "reset", "starting up", "shutting down", "timed out", "timeout", "too many", "server answers")
_told: set[str] = set()  # addresses that do not answer and of which that was said


def await_answer(uri: str) -> None:
    """Returns when the server of this address answers; other addresses are left alone.

    One that refuses the connection or is starting is waited for, PATIENCE long, which is said on standard error. What
    MLflow or the database's driver raised is raised again: then, and at once for what waiting does not mend.
    """
    kind = uri.partition(":")[0].partition("+")[0]
    ask = _ask_server if kind in ("http", "https") else _ask_database if kind in DATABASES[1:] else None
    if ask is None:
        return
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            ask(uri)
        except Exception as error:
            passing = is_mlflow_s(error) and any(sign in str(error).lower() for sign in PASSING)
            if not passing or time.monotonic() > deadline:
                raise
            _tell(uri, error)
            time.sleep(PAUSE)
        else:
            _told.discard(uri)
            return


def _ask_server(uri: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_STATE
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    def asked(path: str) -> Any:
        credentials = get_default_host_creds(uri)
        return http_request(credentials, path, "GET", max_retries=0, timeout=TIMEOUT, raise_on_status=False)

    answer = asked("/health")
    if answer.status_code in STARTING:
        raise MlflowException(f"the server answers with {answer.status_code} {answer.reason}")
    # What stands before MLflow may say in its own words that it is well; the version is MLflow's to tell.
    if answer.status_code == 200 and answer.text.strip() != HEALTHY:
        version = asked("/version")
        if version.status_code == 200 and not VERSION.match(version.text):
            raise MlflowException(answered("200", version.text), INVALID_STATE)


def _ask_database(uri: str) -> None:
    import sqlalchemy

    waits: dict[str, Any] = {"timeout" if uri.startswith("mssql") else "connect_timeout": TIMEOUT}
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool, connect_args=waits)
    engine.connect().close()


def _tell(uri: str, error: Exception) -> None:
    if uri not in _told:
        _told.add(uri)
        said = f"MLflow at {without_secrets(uri)}: {in_words(error)}; trying for {PATIENCE:.0f} s"
        print(said, file=sys.stderr, flush=True)
