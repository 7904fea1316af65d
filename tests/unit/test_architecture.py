"""The rooms of the code: imports run one way, and the picture of docs/architecture.md shows them as they are."""

import ast
import importlib.util
from pathlib import Path

import pytest

from hymunet.data import splits

ROOT = Path(__file__).resolve().parents[2]
# From the roof to the ground. A room imports from its own floor or from floors below.
FLOORS = [
    {"pipelines"},
    {"components"},
    {"hymunet/cli"},
    {"hymunet/clean"},
    {"hymunet/serving", "hymunet/study", "hymunet/portable"},
    {"hymunet/prediction"},
    {"hymunet/registry"},
    {"hymunet/evaluation"},
    {"hymunet/training"},
    {"hymunet/inference"},
    {f"hymunet/data/{step}" for step in ("acquire", "prepare", "divide", "check", "feed")} | {"hymunet/models"},
    {f"hymunet/{name}" for name in ("images", "formats", "losses", "masks", "metrics", "counter", "mlflow_store")},
    {"hymunet/ops"},
]


@pytest.fixture(scope="module")
def drawing():
    specification = importlib.util.spec_from_file_location("draw_architecture", ROOT / "docs/draw_architecture.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_no_import_runs_up(drawing):
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    arrows = drawing.arrows()
    assert arrows.keys() <= floor.keys(), "a room that FLOORS does not know"
    up = [f"{name} -> {other}" for name, others in arrows.items() for other in others if floor[other] < floor[name]]
    assert up == []


def test_no_circle(drawing):
    drawing.reduced(drawing.arrows())  # raises, and names the rooms
    with pytest.raises(ValueError, match="a -> b -> a"):
        drawing.reduced({"a": {"b"}, "b": {"a"}})


def test_no_circle_of_files(drawing):
    """Rooms may hide one: files that import each other inside a room."""
    files = {file for package in drawing.PACKAGES for file in (ROOT / package).rglob("*.py")}
    drawing.reduced({str(file.relative_to(ROOT)): _others(drawing, file) for file in files})


def _others(drawing, file):
    found = {str(other.relative_to(ROOT)) for other in drawing.imported(file)}
    return found - {str(file.relative_to(ROOT))}


def test_an_arrow_that_follows_from_others_is_left_out(drawing):
    graph = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}
    assert drawing.reduced(graph) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}


def test_the_picture_is_of_this_code(drawing):
    assert drawing.stamp(drawing.dot()) in drawing.PICTURE.read_text(), "another code was drawn: make picture"


def test_the_names_of_the_splits_have_one_home(drawing):
    """Elsewhere no two of them stand in one tuple, list or Literal."""
    found = {}
    for package in drawing.PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Tuple | ast.List | ast.Set):
                    values = [one.value for one in node.elts if isinstance(one, ast.Constant)]
                    if len(set(values) & set(splits.NAMES)) > 1:
                        found.setdefault(str(file.relative_to(ROOT)), []).append(values)
    assert found.keys() == {"hymunet/data/splits.py"}, found
