"""A registry in a SQLite file follows its project: MLflow writes whole paths into it, which renaming leaves behind."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

PATHS = {  # where MLflow keeps addresses of artifacts
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "model_versions": ("source", "storage_location"),
}
ARTIFACTS = re.compile(r"(?P<scheme>file://)?(?P<root>/.*?)/(?P<inside>mlruns/.+)")


def follow(uri: str) -> int:
    """Artifacts that lie in `mlruns/` beside the database are looked for there, wherever both were before.

    uri: of the registry; one that is no SQLite file is left alone. Returns how many addresses changed, all at once.
    """
    found = re.fullmatch(r"sqlite:///(?P<path>[^?]+)", uri)
    if not found or not (database := Path(found["path"]).resolve()).is_file():
        return 0
    home, changed = database.parent, 0
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table, columns in PATHS.items():
            if table not in tables:
                continue
            known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for column in (name for name in columns if name in known):
                for old, new in _moved(connection, table, column, home):
                    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old))
                    changed += 1
    return changed


def _moved(connection: sqlite3.Connection, table: str, column: str, home: Path) -> list[tuple[str, str]]:
    rows = connection.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE '%/mlruns/%'").fetchall()
    result = []
    for (old,) in rows:
        part = ARTIFACTS.fullmatch(old)
        if not part or Path(part["root"]) == home:
            continue
        left = not Path(part["root"]).exists() and (home / "mlruns").is_dir()
        if left or (home / part["inside"]).exists():
            result.append((old, f"{part['scheme'] or ''}{home}/{part['inside']}"))
    return result
