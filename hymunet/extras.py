"""Packages that only some commands need: which extra brings one, said in a line where it is not installed."""

import importlib.util
import re

DISTRIBUTION = "hymunet"
NAMED_OTHERWISE = {"PIL": "pillow", "pynvml": "nvidia-ml-py"}  # a module -> the package of pip
_ASKED = re.compile(r"(?P<package>[\w.-]+).*?;.*\bextra == ['\"](?P<extra>[\w-]+)['\"]")


def require(extra: str, *modules: str) -> None:
    """Raises ValueError, before any work, for the first that is not installed. extra: that brings all of them."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ValueError(_line(module, extra))


def missing(error: ModuleNotFoundError, wanted: str = "") -> str | None:
    """The line for a package that an extra brings; None for any other module: its traceback says more.

    wanted: the extra to name, where several bring the package.
    """
    module = (error.name or "").partition(".")[0]
    found = extras_of(module)
    return _line(module, wanted if wanted in found else found[0]) if found else None


def extras_of(module: str) -> list[str]:
    """In the order of pyproject.toml; none for sources that are not installed."""
    import importlib.metadata  # takes as long as the rest of a start

    try:
        asked = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    package = _normal(NAMED_OTHERWISE.get(module, module))
    found = [one for one in map(_ASKED.match, asked) if one and _normal(one["package"]) == package != DISTRIBUTION]
    return list(dict.fromkeys(one["extra"] for one in found))


def _line(module: str, extra: str) -> str:
    return f"needs the package {module}; pip install '{DISTRIBUTION}[{extra}]'"


def _normal(name: str) -> str:
    """As PEP 503 compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()
