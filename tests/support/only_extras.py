"""A program in an environment that has hymunet with some extras alone, as far as its own packages tell.

    python -m tests.support.only_extras EXTRAS MODULE ARGUMENTS…

runs MODULE as `python -m` does, where no package is found but those that `pip install 'hymunet[EXTRAS]'` installs.
"""

import importlib.machinery
import importlib.metadata
import re
import runpy
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN = {"hymunet", "components", "pipelines"}


def asked(extras: list[str]) -> Iterator[Requirement]:
    """What pyproject.toml asks for besides the core, extras within extras opened."""
    for extra in extras:
        for line in PROJECT["optional-dependencies"][extra]:
            within = re.fullmatch(r"hymunet\[(.+)\]", line)
            yield from asked(within[1].split(",")) if within else [Requirement(line)]


def installed(extras: list[str]) -> set[str]:
    """Names of the distributions, with all that they ask for in turn."""
    found, left = set(), [*map(Requirement, PROJECT["dependencies"]), *asked(extras)]
    while left:
        one = left.pop()
        for extra in one.extras or {""}:
            if (seen := (canonicalize_name(one.name), extra)) in found:
                continue
            found.add(seen)
            try:
                more = [Requirement(line) for line in importlib.metadata.requires(one.name) or []]
            except importlib.metadata.PackageNotFoundError:
                continue  # for another system
            wanted = ({"extra": extra}, {"extra": ""})
            left += [each for each in more if each.marker is None or any(map(each.marker.evaluate, wanted))]
    return {name for name, _ in found}


def others(extras: list[str]) -> set[str]:
    """Modules that are here and would not be there."""
    there = installed(extras)
    owners = importlib.metadata.packages_distributions().items()
    here = {module for module, names in owners if not there & set(map(canonicalize_name, names))}
    return here - OWN - set(sys.stdlib_module_names)


if __name__ == "__main__":
    hidden = others(sys.argv[1].split(","))
    find = importlib.machinery.PathFinder.find_spec
    importlib.machinery.PathFinder.find_spec = lambda name, *more: (  # type: ignore[method-assign]
        None if name.partition(".")[0] in hidden else find(name, *more)
    )
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
