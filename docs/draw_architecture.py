"""Draws docs/images/architecture.svg: where data goes, from dvc.yaml, and the rooms of the code, from its own imports.

    python docs/draw_architecture.py

Needs Graphviz (`dot`). An arrow that follows from two others is left out; so are the files that everybody uses.
"""

import ast
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs/images/architecture.svg"
COMMON = (
    "addresses",
    "atomic",
    "closure",
    "commit",
    "compiled_parts",
    "control_groups",
    "data/grouping",
    "data/splits",
    "evidence",
    "extras",
    "overrides",
    "params",
    "places",
    "silence",
    "streams",
    "precision",
    "processors",
)
COMMON += ("profiles", "section", "shortlist", "yaml_text")
PACKAGES = ("hymunet", "components", "pipelines")
EVERYBODY = {f"hymunet/{name}.py" for name in COMMON} | {"hymunet/bundled/__init__.py"}
CODE, DATA, STEP = "#e8f0f7", "#f3efe6", "#dfeadf"


def room(file: Path) -> str | None:
    """A folder of the library, a step's folder of its data, or a file that stands alone; None: one that all use."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "hymunet":
        return parts[0]
    if file.relative_to(ROOT).as_posix() in EVERYBODY or parts == ("hymunet", "__init__"):
        return None
    return "/".join(parts[: 3 if parts[1] == "data" else 2])


def imported(file: Path) -> set[Path]:
    """The project's own files that one file imports to run, at its top or inside its functions."""
    found: set[Path | None] = set()
    todo: list[ast.AST] = [ast.parse(file.read_text())]
    while todo:
        node = todo.pop()
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            todo.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found |= {_module(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {_module(f"{node.module}.{alias.name}") or _module(node.module) for alias in node.names}
    return {path for path in found if path and path.read_text().strip()}


def _module(name: str) -> Path | None:
    path = ROOT / name.replace(".", "/")
    options = (path.with_suffix(".py"), path / "__init__.py") if name.split(".")[0] in PACKAGES else ()
    return next((option for option in options if option.is_file()), None)


def arrows() -> dict[str, set[str]]:
    """Room -> the rooms that it imports from."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            if (here := room(file)) and file.read_text().strip():
                there = {room(other) for other in imported(file)}
                found.setdefault(here, set()).update(name for name in there if name and name != here)
    return found


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without the arrows that follow from others. Raises ValueError where imports run in a circle."""
    reached: dict[str, set[str]] = {}

    def reach(name: str, above: tuple[str, ...] = ()) -> set[str]:
        if name in above:
            raise ValueError(f"imports run in a circle: {' -> '.join([*above[above.index(name) :], name])}")
        if name not in reached:
            reached[name] = set().union(*(reach(other, (*above, name)) | {other} for other in graph[name]))
        return reached[name]

    for name in graph:
        reach(name)
    return {
        name: {other for other in others if not any(other in reached[third] for third in others - {other})}
        for name, others in graph.items()
    }


def flow(stages: dict[str, Any]) -> list[str]:
    """Stages and what they hand on, as nodes and arrows of dot."""
    made = {out: name for name, stage in stages.items() for out in map(_path, stage["outs"])}
    lines = [f'"{name}" [fillcolor="{STEP}", shape=box, label=<<b>{name}</b>>];' for name in stages]
    lines += [f'"{out}" [fillcolor="{DATA}", shape=folder];' for out in made]
    lines += [f'"{name}" -> "{out}";' for out, name in made.items()]
    for name, stage in stages.items():
        read = {out for dep in stage["deps"] for out in made if dep == out or dep.startswith(f"{out}/")}
        lines += [f'"{out}" -> "{name}";' for out in sorted(read)]
    return lines


def _path(out: str | dict[str, Any]) -> str:
    return out if isinstance(out, str) else next(iter(out))


def dot() -> str:
    stages = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
    graph = reduced(arrows())
    rooms = [
        f'"{name}" [fillcolor="{CODE}", shape=box, label="{name.removeprefix("hymunet/")}"];' for name in sorted(graph)
    ]
    imports = [f'"{name}" -> "{other}";' for name in sorted(graph) for other in sorted(graph[name])]
    style = 'fontname="Helvetica", fontsize=11, color="#8899aa", fontcolor="#223344"'
    return "\n".join(
        [
            "digraph {",
            f"graph [{style}, rankdir=TB, nodesep=0.18, ranksep=0.32, style=rounded, labeljust=l];",
            f'node [{style}, style="filled,rounded", margin="0.12,0.05", height=0.3]; edge [{style}, arrowsize=0.6];',
            'subgraph cluster_flow { label="Where data goes (dvc.yaml)";',
            *flow(stages),
            '} subgraph cluster_code { label="Rooms of the code: an arrow points to what is imported";',
            *rooms,
            *imports,
            "} }\n",
        ]
    )


def stamp(text: str) -> str:
    return f"<!-- drawn from {hashlib.sha256(text.encode()).hexdigest()} -->\n"


def main() -> None:
    text = dot()
    try:
        svg = subprocess.run(["dot", "-Tsvg"], input=text, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        sys.exit("draw_architecture: no program `dot`; install Graphviz")
    PICTURE.write_text(svg + stamp(text))
    print(f"{PICTURE.relative_to(ROOT)} drawn")


if __name__ == "__main__":
    main()
