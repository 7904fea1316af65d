"""The compiled pipeline is walked as Kubeflow walks it: what a container does is played, what it is told is real."""

import ast
import json
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kfp", reason="needs the extra `pipelines`")

from kfp import compiler, dsl

from hymunet.params import read_yaml
from pipelines import graph
from pipelines.training import compile_pipeline
from tests.unit.pipelines.test_compile import cluster

ROOT = Path(__file__).resolve().parents[3]
STEPS = ["download", "prepare", "split", "validate", "train", "evaluate", "register"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "pipeline.yaml"
    compile_pipeline(cluster(), read_yaml(ROOT / "params.yaml"), path)
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "SECOND", 0.0)


class Containers:
    """Writes what each container is asked for. `codes`: exit codes of a step's tries, 0 after them."""

    def __init__(self, codes: dict[str, list[int]] | None = None, **parameters: str) -> None:
        self.codes = {name: list(values) for name, values in (codes or {}).items()}
        self.parameters = {"passed": "true"} | parameters
        self.ran: list[str] = []
        self.told: dict[str, Any] = {}

    def __call__(self, label: str, image: str, command: list[str], environment: dict[str, str]) -> int:
        name = label.removeprefix("exec-")
        self.ran.append(name)
        if code := (self.codes.get(name) or [0]).pop(0):
            return code
        if "--executor-input" in command:
            self.told[name] = told = json.loads(command[command.index("--executor-input") + 1])
            for entry in told["outputs"]["artifacts"].values():
                write(entry["artifacts"][0]["uri"], f"{name}'s own")
            for parameter, entry in told["outputs"]["parameters"].items():
                write(entry["outputFile"], self.parameters[parameter])
        return 0


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def run(package: Path, root: Path, containers: Callable[..., int], run_id: str = "r1", **arguments: Any) -> bool:
    return graph.Graph(package).run(arguments, root, run_id, containers)


def test_every_step_runs_once_in_order_and_gets_what_the_one_before_made(package: Path, tmp_path: Path) -> None:
    containers = Containers()
    assert run(package, tmp_path, containers, params="{}")
    assert containers.ran == [*STEPS, "conclude", "finish"]
    for before, name in pairwise(STEPS):
        inputs = containers.told[name]["inputs"]
        assert inputs["artifacts"]["lock_before"]["artifacts"][0]["uri"] == str(tmp_path / "r1" / before / "lock")
        assert inputs["parameterValues"]["params"] == "{}"


def test_refused_data_run_the_other_branch_and_the_exit_handler(package: Path, tmp_path: Path) -> None:
    containers = Containers({"reject": [1]}, passed="false")
    assert not run(package, tmp_path, containers)
    assert containers.ran == ["download", "prepare", "split", "validate", "reject", "finish"]


def test_a_step_that_fails_is_tried_as_often_as_the_yaml_says(package: Path, tmp_path: Path) -> None:
    containers = Containers({"prepare": [75, 137]})
    assert run(package, tmp_path, containers)
    assert containers.ran.count("prepare") == 3
    containers = Containers({"prepare": [70] * 9})
    assert not run(package, tmp_path, containers, "r2")
    assert containers.ran == ["download", "prepare", "prepare", "prepare", "finish"]


def test_a_failed_exit_handler_fails_the_run(package: Path, tmp_path: Path) -> None:
    assert not run(package, tmp_path, Containers({"finish": [1] * 9}))


def test_a_step_that_does_not_write_what_it_was_asked_for_has_failed(package: Path, tmp_path: Path) -> None:
    assert not run(package, tmp_path, lambda *_: 0)


def test_a_run_is_not_mixed_with_an_earlier_one(package: Path, tmp_path: Path) -> None:
    run(package, tmp_path, Containers())
    with pytest.raises(ValueError, match="run r1 is already in"):
        run(package, tmp_path, Containers())


def test_the_command_and_environment_are_those_of_the_yaml(package: Path, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def execute(label: str, image: str, command: list[str], environment: dict[str, str]) -> int:
        seen[label] = (image, command, environment)
        return 1

    run(package, tmp_path, execute, params="{train}")
    image, command, environment = seen["exec-download"]
    assert image.startswith("hub/hymunet@sha256:")
    expected = ["python", "-m", "pipelines.step", "--stage", "download", "--run", "r1", "--params", "{train}"]
    assert command[: len(expected)] == expected
    assert environment["HYMUNET_DVC_REMOTE"] == "s3://bucket/dvc"


@dsl.container_component
def note(text: str, note: dsl.OutputPath(str)) -> dsl.ContainerSpec:  # type: ignore[no-untyped-def, valid-type]
    return dsl.ContainerSpec(image="i", command=["sh", "-c"], args=["--", text, note])


def compiled(path: Path, pipeline: Any) -> Path:
    compiler.Compiler().compile(pipeline, str(path))
    return path


def test_constants_and_outputs_fill_the_placeholders(tmp_path: Path) -> None:
    @dsl.pipeline(name="two")
    def two() -> None:
        note(text=note(text="hello").outputs["note"])

    seen: list[list[str]] = []

    def execute(label: str, image: str, command: list[str], environment: dict[str, str]) -> int:
        seen.append(command)
        write(command[-1], "from the first")
        return 0

    assert run(compiled(tmp_path / "p.yaml", two), tmp_path, execute)
    assert [command[3] for command in seen] == ["hello", "from the first"]


@dsl.container_component
def sums(texts: list, note: dsl.OutputPath(str)) -> dsl.ContainerSpec:  # type: ignore[no-untyped-def, type-arg, valid-type]
    return dsl.ContainerSpec(image="i", command=["sh", "-c"], args=["--", texts, note])


def test_a_loop_runs_every_item_and_no_more_at_a_time_than_it_says(tmp_path: Path) -> None:
    @dsl.pipeline(name="loop")
    def loop() -> None:
        with dsl.ParallelFor(["a", "b", "c"], parallelism=2) as item:
            noted = note(text=item)
        sums(texts=dsl.Collected(noted.outputs["note"]))

    package = compiled(tmp_path / "p.yaml", loop)
    pair, lock = threading.Barrier(2), threading.Lock()
    running, most, seen = 0, 0, []

    def execute(label: str, image: str, command: list[str], environment: dict[str, str]) -> int:
        nonlocal running, most
        with lock:
            running, seen[len(seen) :] = running + 1, [command[3]]
            most = max(most, running)
        if command[3] in ("a", "b"):
            pair.wait(timeout=20)  # both are at work at once, or the test ends here
        with lock:
            running -= 1
        write(command[-1], f"{command[3]} noted")
        return 0

    assert run(package, tmp_path, execute)
    assert most == 2
    assert sorted(seen[:3]) == ["a", "b", "c"]
    assert json.loads(seen[3]) == ["a noted", "b noted", "c noted"], "in the order of the items"


def test_an_item_that_fails_stops_no_other_and_fails_the_loop(tmp_path: Path) -> None:
    @dsl.pipeline(name="loop")
    def loop() -> None:
        with dsl.ParallelFor(["a", "b", "c"], parallelism=1) as item:
            noted = note(text=item)
        sums(texts=dsl.Collected(noted.outputs["note"]))

    seen: list[str] = []

    def execute(label: str, image: str, command: list[str], environment: dict[str, str]) -> int:
        seen.append(command[3])
        write(command[-1], "noted")
        return int(command[3] == "a")

    assert not run(compiled(tmp_path / "p.yaml", loop), tmp_path, execute)
    assert seen == ["a", "b", "c"]


def test_what_is_not_walked_is_refused_before_anything_runs(tmp_path: Path) -> None:
    @dsl.pipeline(name="loop")
    def loop(texts: list = ["a"]) -> None:  # type: ignore[type-arg]  # noqa: B006
        with dsl.ParallelFor(texts) as item:
            note(text=item)

    with pytest.raises(ValueError, match="run-local knows no loop over a list that a step makes"):
        graph.Graph(compiled(tmp_path / "p.yaml", loop))


def test_tasks_that_wait_for_one_another_are_an_error() -> None:
    with pytest.raises(ValueError, match="a, b wait for one another"):
        list(graph.in_order({"a": {"dependentTasks": ["b"]}, "b": {"dependentTasks": ["a"]}}))


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_no_mock_ships_and_one_module_knows_dvcs_insides() -> None:
    for path in sorted(path for part in ("pipelines", "components", "hymunet") for path in (ROOT / part).rglob("*.py")):
        names = imported(path)
        assert not {name for name in names if name.startswith(("unittest", "kfp.local"))}, path
        inside = {name for name in names if name.partition(".")[0] in ("dvc", "dvc_data", "dvc_objects")}
        assert not inside or path.name == "dvc_compat.py", f"{path} imports {inside}"
