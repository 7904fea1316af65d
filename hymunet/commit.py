"""Which state of the code something was made with."""

import os
import subprocess
from pathlib import Path

LOCK = "dvc.lock"  # DVC rewrites it while the pipeline runs: a record of results, not a change of the code
NAMED = "HYMUNET_GIT_COMMIT"  # an image's


def git_commit(root: Path, *results: Path) -> str | None:
    """The commit that is checked out, with `-dirty` when tracked files differ from it; an image names its own.

    None where there is no repository. A `dvc.lock` that differs, at its top or in `root`, makes nothing dirty, nor does
    what lies below `results`, folders of results that may be elsewhere.
    """
    if named := os.environ.get(NAMED):
        return named
    try:
        commit = _git(root, "rev-parse", "HEAD")
        others = (":/", f":(exclude,top){LOCK}", f":(exclude){LOCK}")  # the repository's own lock and root's
        top = Path(_git(root, "rev-parse", "--show-toplevel")).resolve()
        inside = (path.resolve() for path in results if path.resolve().is_relative_to(top))
        left_out = (f":(exclude,top,literal){path.relative_to(top).as_posix()}" for path in inside)
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *others, *left_out)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
