"""A registry in a SQLite file follows its project: MLflow writes whole paths into it, which renaming leaves behind.

MLflow has no way to say where artifacts are now: `create_experiment` makes relative locations absolute, and neither its
client nor its commands change one afterwards. So the addresses are changed in its tables: only in a file of the schema
that the installed MLflow has, in one transaction, with a copy of the file as it was beside it.
"""

import os
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from hymunet.mlflow_store.address import project_root
from hymunet.mlflow_store.database import ASIDE, judge, path_of

COLUMNS = (  # where MLflow keeps addresses of artifacts
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
MOVED_FOR_ANOTHER = (
    "the project has moved, and this user may not write the file: artifacts are looked for where they were until a "
    "command of its owner, as hymunet models list, has changed their addresses"
)
ARTIFACTS = re.compile(r"(?P<scheme>file://)?(?P<root>/.*?)/(?P<inside>mlruns/.+)")


def follow(uri: str) -> int:
    """Artifacts that lie in `mlruns/` beside the database are looked for there, wherever both were before.

    uri: of the registry; one that is no SQLite file, or not a whole one, is left alone, as is one that this user may
    not write, which is said. Returns how many addresses
    changed, all at once.
    """
    path = path_of(uri)
    if path is None or judge(database := path.resolve()).kind != "whole":
        return 0
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        if not _moved(connection, database.parent):
            return 0
        if not all(os.access(place, os.W_OK) for place in (database, database.parent)):
            print(f"{path}: {MOVED_FOR_ANOTHER}", file=sys.stderr)
            return 0
        copy = _copied(connection, database)
        with connection:
            connection.execute("BEGIN IMMEDIATE")  # what is read here is what is changed
            moved = _moved(connection, database.parent)
            for table, column, old, new in moved:
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old))
    gone = all(project_root(Path(old)) == database.parent for _, _, old, _ in moved)
    why = "a temporary copy of the project has gone" if gone else "the project has moved"
    print(
        f"{path}: {why}: {len(moved)} addresses of artifacts now lead to {database.parent}/mlruns; "
        f"as it was: {copy.name}",
        file=sys.stderr,
    )
    return len(moved)


def _copied(connection: sqlite3.Connection, database: Path) -> Path:
    """SQLite's own copy, which is of one moment whoever writes meanwhile."""
    copy, partial = (database.with_name(f"{database.name}.{end}") for end in (ASIDE[1], f"{ASIDE[1]}.part"))
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(partial)) as target:
        connection.backup(target)
    partial.replace(copy)
    return copy


def _moved(connection: sqlite3.Connection, home: Path) -> list[tuple[str, str, str, str]]:
    """(table, column, address as it is, as it should be)"""
    result = []
    for table, column in COLUMNS:
        query = f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE '%/mlruns/%'"
        for (old,) in connection.execute(query).fetchall():
            part = ARTIFACTS.fullmatch(old)
            if not part or Path(part["root"]) == home:
                continue
            left = not _may_be_there(Path(part["root"])) and (home / "mlruns").is_dir()
            if left or (home / part["inside"]).exists():
                result.append((table, column, old, f"{part['scheme'] or ''}{home}/{part['inside']}"))
    return result


def _may_be_there(folder: Path) -> bool:
    """Also where this user may not look."""
    try:
        return folder.exists()
    except PermissionError:
        return True
