"""The MLflow server, or the SQLite file, that holds the registry (hymunet/mlflow_store/address.py says which)."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hymunet.addresses import without_secrets
from hymunet.mlflow_store import errors
from hymunet.mlflow_store.address import registry_uri, tracking_uri, without_a_home
from hymunet.mlflow_store.answer import await_answer
from hymunet.mlflow_store.database import is_there, require
from hymunet.mlflow_store.environment import adopt
from hymunet.mlflow_store.errors import Unavailable as Unavailable
from hymunet.mlflow_store.patience import heed_silence
from hymunet.mlflow_store.store import prepare

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHALLENGER, CHAMPION = "challenger", "champion"
REGISTER = "dvc repro register"


def public_uri() -> str:
    """The registry's address as records and messages show it."""
    return without_secrets(registry_uri())


@contextmanager
def registry(make: bool = True) -> Iterator["MlflowClient"]:
    """A client; what it refuses or does not answer becomes a ValueError of one line; silence does after 30 s.

    make: whether a SQLite file that is not there is made; no for whoever does not register.
    """
    adopt(retries=2, seconds=30)
    without_a_home()
    tracking, holds_versions = tracking_uri(), registry_uri()
    if not (make or is_there(holds_versions)):
        require(holds_versions)  # says so; loading MLflow takes seconds

    import mlflow

    heed_silence()
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if not (make or os.environ.get("MLFLOW_TRACKING_URI") or is_there(tracking)):
        tracking = holds_versions  # nobody named where runs are, and none are needed
    mlflow.set_tracking_uri(tracking)
    try:
        yield _opened(tracking, holds_versions, make)
    except ModuleNotFoundError as error:
        raise ValueError(f"MLflow at {public_uri()} {errors.in_words(error)}") from None
    except Exception as error:
        if not errors.is_mlflow_s(error):
            raise
        kind = ValueError if errors.for_good(error) else Unavailable
        raise kind(f"MLflow at {public_uri()}: {errors.in_words(error)}") from None


def _opened(tracking: str, holds_versions: str, make: bool) -> "MlflowClient":
    """A client of the stores that were made ready, whatever another thread sets for the process meanwhile."""
    import mlflow

    try:
        for uri in dict.fromkeys((tracking, holds_versions)):
            await_answer(uri)
            prepare(uri, make)
        return mlflow.MlflowClient(tracking, holds_versions)
    except Unavailable:
        raise
    except OSError as error:
        raise ValueError(f"MLflow at {without_secrets(holds_versions)}: {error}") from None
