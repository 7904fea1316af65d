"""MLflow's SQLite file: made whole or not at all, and told apart from what cannot be used.

MLflow makes its tables in place, statement by statement: two programs at once, or a kill in the first seconds, leave a
file that no MLflow opens again. So the tables are made in a file beside it, under a lock, which then gets the name.
"""

import fcntl
import functools
import logging
import os
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from hymunet.addresses import without_secrets
from hymunet.mlflow_store.address import DATABASES
from hymunet.mlflow_store.errors import Unavailable

_ADDRESS = re.compile(r"sqlite(\+pysqlite)?:///(?P<path>[^?]+)(\?.*)?")
_CONTENT = ("experiments", "runs", "registered_models")  # tables with anything of a user's; MLflow fills them last
_MIGRATING = threading.Lock()  # Alembic keeps what it works on in globals of the process
_REMNANT = "_alembic_tmp_"  # how tables begin that a change of the schema leaves when it is broken off
ASIDE = ("unfinished", "before-move")  # endings of what is put aside: here, and by a project that has moved
QUIET = 5.0  # seconds without a change after which nobody is at work on a file
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
PATIENCE = 120.0  # seconds to wait for another program that makes or changes the file


@dataclass(frozen=True)
class Judgement:
    """What a file is: `none` of it yet, `whole`, `unfinished` (no content, tables missing), `foreign` or `unusable`."""

    kind: str
    reason: str = ""  # of `unusable`, with the remedy


def path_of(uri: str) -> Path | None:
    """The file that a SQLite address names; None for other addresses and for databases in memory."""
    found = _ADDRESS.fullmatch(uri)
    return Path(found["path"]) if found and found["path"] != ":memory:" else None


def is_there(uri: str) -> bool:
    """No for a SQLite address that names no file."""
    path = path_of(uri)
    return path is None or path.exists()


def ready(uri: str) -> None:
    """Makes the SQLite file of this address where there is none; other addresses are left alone.

    One that was begun and left, without a run or a model in it, is put aside, which is said. Raises ValueError for a
    file that cannot be used: what it is and what to do, in one line.
    """
    path = path_of(uri)
    if path is None or judge(path).kind in ("whole", "foreign"):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        found = _settled(path)
        if found.kind == "unusable":
            raise ValueError(f"{path}: {found.reason}")
        if found.kind in ("whole", "foreign"):
            return
        if path.exists() and path.stat().st_size:
            aside = path.with_name(f"{path.name}.{ASIDE[0]}")
            path.rename(aside)
            print(f"{path}: was begun and never finished, and holds no run and no model: now {aside}", file=sys.stderr)
        with _MIGRATING:
            _make(path)


def require(uri: str) -> None:
    """Raises ValueError where the database of this address is not there or holds no MLflow; makes and changes nothing.

    MLflow's own client would make its tables in whatever it is told to read. Servers are left alone.
    """
    if (path := path_of(uri)) is not None:
        found = judge(path)
        if found.kind != "whole":
            raise ValueError(f"{path.absolute()}: {found.reason or _NOTHING_TO_READ[found.kind]}")
    elif urlsplit(uri).scheme.partition("+")[0] in DATABASES[1:]:
        import sqlalchemy

        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
        if not sqlalchemy.inspect(engine).has_table("experiments"):
            raise ValueError(f"{without_secrets(uri)}: has no tables of MLflow; {_ELSEWHERE}")


_ELSEWHERE = "register a model first, or name the registry where it is (MLFLOW_TRACKING_URI or MLFLOW_REGISTRY_URI)"
_NOTHING_TO_READ = {
    "none": f"there is no registry at this path; {_ELSEWHERE}",
    "unfinished": f"was begun and holds no model; if a program is at work on it, wait, else {_ELSEWHERE}",
    "foreign": f"holds another program's tables and none of MLflow; {_ELSEWHERE}",
}


def judge(path: Path) -> Judgement:
    if not path.exists() or not path.stat().st_size:
        return Judgement("none")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=30)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            versions = _rows(connection, tables, "alembic_version", "version_num")
            content = any(_rows(connection, tables, table, "1") for table in _CONTENT)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # locked, not to be written, not to be read
            kind = Unavailable if error.sqlite_errorcode in BUSY else ValueError
            raise kind(f"{path}: cannot be opened ({error})") from None
        return Judgement("unusable", f"no SQLite database, or a damaged one ({error}); {_ANOTHER}")
    if not tables:
        return Judgement("none")
    if versions and versions[0] == newest_schema():
        return Judgement("whole")
    if tables - {"alembic_version"} and "experiments" not in tables and not _has_remnant(tables):
        return Judgement("foreign")  # another program's: MLflow adds its own tables
    if not content:
        return Judgement("unfinished")
    return Judgement("unusable", _explained(path, tables, versions[0] if versions else None))


_ANOTHER = "restore it from a backup, or move it away or name another file (MLFLOW_TRACKING_URI) to begin anew"


def _rows(connection: sqlite3.Connection, tables: set[str], table: str, column: str) -> list[str]:
    """The first row's value, if there is one."""
    if table not in tables:
        return []
    return [value for (value,) in connection.execute(f"SELECT {column} FROM {table} LIMIT 1")]


def _has_remnant(tables: set[str]) -> bool:
    return any(name.startswith(_REMNANT) for name in tables)


def _explained(path: Path, tables: set[str], version: str | None) -> str:
    import mlflow

    if _has_remnant(tables):
        return f"a change of its tables was broken off in the middle; {_ANOTHER}"
    if version is None or version in _known_schemas():
        return (
            f"made by an older MLflow than {mlflow.__version__}; copy it, then bring it up to date with nothing else "
            f"at work on it: mlflow db upgrade sqlite:///{path}"
        )
    return f"made by a newer MLflow than {mlflow.__version__}; install that one, or name another file"


@functools.cache
def newest_schema() -> str | None:
    """Of the installed MLflow, whose fifty changes of its tables are loaded for it: a tenth of a second."""
    return _schemas().get_current_head()


def _known_schemas() -> set[str]:
    return {revision.revision for revision in _schemas().walk_revisions()}


def _schemas():  # type: ignore[no-untyped-def]
    import mlflow
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store/db_migrations"))


def _settled(path: Path) -> Judgement:
    """Waits while somebody, MLflow itself perhaps, is at work on a file that is not whole."""
    found, last, since, begin = judge(path), None, time.monotonic(), time.monotonic()
    while found.kind == "unfinished" or (found.kind == "none" and path.exists()):
        seen = (path.stat().st_size, path.stat().st_mtime_ns)
        if seen != last:
            last, since = seen, time.monotonic()
        if time.monotonic() - since > QUIET:
            return found
        if time.monotonic() - begin > PATIENCE:
            raise Unavailable(f"{path}: another program has been making it for {PATIENCE:.0f} s; end it and try again")
        time.sleep(QUIET / 50)
        found = judge(path)
    return found


def _make(path: Path) -> None:
    from mlflow.db import upgrade

    new = path.with_name(f"{path.name}.new")
    for file in (new, new.with_name(f"{new.name}-journal")):
        file.unlink(missing_ok=True)  # of one that was killed
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    assert upgrade.callback is not None
    upgrade.callback(f"sqlite:///{new.resolve()}")
    if path.exists():
        new.replace(path)  # an empty file, at which nobody is at work
        return
    try:
        os.link(new, path)
    except FileExistsError:
        pass  # another program has made it meanwhile
    except OSError:  # no links on this file system
        new.rename(path)
    new.unlink(missing_ok=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Among the programs of this project. MLflow's own know nothing of it, which is why `_settled` watches."""
    begin = time.monotonic()
    with path.with_name(f"{path.name}.lock").open("w", encoding="utf-8") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - begin > 2 * PATIENCE:
                    raise Unavailable(f"{lock.name}: held by another program for {2 * PATIENCE:.0f} s") from None
                time.sleep(0.05)
        yield
