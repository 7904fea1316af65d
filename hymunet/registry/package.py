"""What a version ships beside its weights: the code that serving runs on, and the packages which that code imports.

Both are derived, so that neither can fall behind: the code is the import closure of the served program and of the
model's own module, the packages are those that it has loaded once it has made a mask.
"""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from hymunet import closure
from hymunet.models import catalogue

ROOT = closure.ROOT
SERVE = "hymunet/registry/serve.py"
TRIAL = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[1])
import numpy
from hymunet.inference import Segmenter
Segmenter.load(pathlib.Path(sys.argv[2]), device="cpu").masks([numpy.zeros((9, 9, 3), numpy.uint8)])
print(json.dumps(sorted(name for name, module in sys.modules.items() if getattr(module, "__file__", None))))
"""


def code_files(model: str) -> list[str]:
    """Paths below the project's root of what serving a model of this name runs on."""
    module = catalogue.module(model)
    ours = [module] if module.startswith("hymunet.") else sorted(set().union(*map(_ours, _files_elsewhere(module))))
    return closure.files(Path(SERVE), *ours)


def _files_elsewhere(module: str) -> list[Path]:
    """Of a model of another package: the files of that package which it runs on."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ValueError(f"model module {module}: its source is not found")
    file = Path(found.origin)
    root = file.parents[module.count(".") + (file.name == "__init__.py")]
    return [root / name for name in closure.files(module, root=root, packages=[module.partition(".")[0]])]


def _ours(path: Path) -> set[str]:
    """Modules and packages of `hymunet` that a file imports, wherever in it; also packages that say nothing."""
    named = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    places = {name: ROOT / name.replace(".", "/") for name in named if name.partition(".")[0] == "hymunet"}
    return {
        name
        for name, place in places.items()
        if place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()
    }


def code_sha256(model: str) -> str:
    return closure.sha256(code_files(model))


def copy_code(model: str, target: Path) -> Path:
    """Writes the package `hymunet`, as far as serving needs it, into `target`; returns its folder.

    Compiled libraries go along where they were built; on another kind of machine the slow forms take their place.
    """
    for name in code_files(model):
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, file)
        named = {Path(module.replace(".", "/")) for module in _ours(file)} if file.suffix == ".py" else set()
        for folder in {*Path(name).parents, *named}:  # packages whose own file says nothing
            if (ROOT / folder / "__init__.py").is_file():
                (target / folder).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / folder / "__init__.py", target / folder / "__init__.py")
        if file.parent.name == "csrc":
            for library in (ROOT / name).parents[1].glob("*.so"):
                shutil.copyfile(library, file.parents[1] / library.name)
    return target / "hymunet"


def requirements(code: Path, weights: Path, model: str) -> list[str]:
    """`package==version`, as installed here, of every distribution that the served code names and loads.

    code, weights: as they are shipped. They are tried in a process of their own that sees no other code of ours, and no
    GPU: faster ways that only some machines have are no requirement. Raises ValueError when the trial fails.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "CUDA_VISIBLE_DEVICES": ""
    }
    command = [sys.executable, "-P", "-c", TRIAL, str(code.parent), str(weights)]
    done = subprocess.run(command, cwd=code.parent, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"the code that would be shipped does not run: {done.stderr.strip().splitlines()[-1]}")
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    named = _imports(code.parent / SERVE) | {catalogue.module(model)}
    for module in loaded:
        file = code.parent / f"{module.replace('.', '/')}.py"
        if module.partition(".")[0] == "hymunet" and file.is_file():
            named |= {name for name in _imports(file) if name in loaded}
    return sorted({f"{name}=={metadata.version(name).partition('+')[0]}" for name in _distributions(named)})


def _imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def _distributions(modules: set[str]) -> set[str]:
    """Those that provide the modules. Several may share a name: `mlflow` is also in mlflow-skinny, `ruamel` in many."""
    tops = {module: module.partition(".")[0] for module in modules}
    foreign = {module: top for module, top in tops.items() if top != "hymunet" and top not in sys.stdlib_module_names}
    providers = _providers(set(foreign.values()))
    found: set[str] = set()
    for module, top in foreign.items():
        names = {_normal(name): name for name in providers.get(top, [])}
        if not names:
            raise ValueError(f"the served code imports {module}, which belongs to no installed package")
        exact = [names[name] for name in (_normal(module), _normal(top)) if name in names]
        found |= set(exact[:1] or names.values())
    return found


def _providers(wanted: set[str]) -> dict[str, set[str]]:
    """Top-level module -> installed distributions that bring it. `metadata.packages_distributions` says the same of all
    modules, an object for each file on the way: half a second.
    """
    found: dict[str, set[str]] = {}
    for distribution in metadata.distributions():
        if stated := distribution.read_text("top_level.txt"):
            tops = set(stated.split())
        else:
            recorded = (line.partition(",")[0] for line in (distribution.read_text("RECORD") or "").splitlines())
            tops = {path.partition("/")[0].removesuffix(".py") for path in recorded if path.endswith(".py")}
        for top in tops & wanted:
            found.setdefault(top, set()).add(distribution.metadata["Name"])
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
