"""Prints what pyproject.toml asks for the extras named, one requirement a line: a layer that sources do not invalidate.

python requirements.py train,evaluate,dvc
"""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]


def requirements(extras: list[str]) -> list[str]:
    """Requirements of the extras, those named as `hymunet[a,b]` opened in turn."""
    found = []
    for extra in extras:
        for line in project["optional-dependencies"][extra]:
            own = re.fullmatch(r"hymunet\[(.+)\]", line)
            found += requirements(own[1].split(",")) if own else [line]
    return found


if __name__ == "__main__":
    print("\n".join(sorted({*project["dependencies"], *requirements(sys.argv[1].split(","))})))
