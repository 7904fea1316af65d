"""What is done to a store before MLflow's client opens it."""

from hymunet.mlflow_store.address import artifact_root
from hymunet.mlflow_store.database import ready, require
from hymunet.mlflow_store.relocation import follow


def prepare(uri: str, make: bool = True) -> None:
    """Makes a SQLite file that is not there, and has addresses of artifacts lead to where they last.

    make: no for who only reads; then a database that is not there, or is not MLflow's, is a ValueError.

    MLflow's own experiment, which it makes as it opens a new database, would get its place below the working folder,
    which a temporary copy of the project takes along when it goes.
    """
    (ready if make else require)(uri)
    follow(uri)
    if root := artifact_root(uri):
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        SqlAlchemyStore(uri, str(root))
