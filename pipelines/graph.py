"""A compiled pipeline, walked on this machine as Kubeflow walks it: order, exit handler, conditions, loops, retries.

Of the specification as much as our pipeline uses; anything else is refused before the first container starts, not
passed over. kfp's own local runner has no place for another way to run a container, and takes a condition on one of
several outputs of a step for false.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipelines.conditions import evaluate

WHATEVER_HAPPENED = "ALL_UPSTREAM_TASKS_COMPLETED"  # the trigger of an exit handler
TASK = {"cachingOptions", "componentRef", "dependentTasks", "inputs", "retryPolicy", "taskInfo", "triggerPolicy"}
TASK |= {"iteratorPolicy", "parameterIterator"}  # a loop over a list that the pipeline was compiled with
PLACEHOLDER = re.compile(r"\{\{\$(.*?)\}\}")
SECOND = 1.0  # a cluster's back-off waits for a node or a store to come back; here there is nothing to wait for
# label, image, command, environment -> exit code
Execute = Callable[[str, str, list[str], dict[str, str]], int]


@dataclass
class Values:
    """What a task is given, or has given: parameters by name, artifacts as Kubeflow describes them."""

    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)


class Graph:
    """The pipeline of a compiled YAML, and what that says of its containers."""

    def __init__(self, package: Path) -> None:
        spec, *platform = YAML(typ="safe", pure=True).load_all(package)
        self.root, self.components = spec["root"], spec["components"]
        self.executors = spec["deploymentSpec"]["executors"]
        # What is particular to Kubernetes; a pipeline that asks for nothing there has no such part.
        self.kubernetes = platform[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platform else {}
        for component in [self.root, *self.components.values()]:
            _refuse_unknown(component)

    def run(self, arguments: dict[str, Any], folder: Path, run_id: str, execute: Execute) -> bool:
        """Runs the pipeline, its outputs in `folder`/run_id/step/; True when it succeeded.

        ValueError when the run is there already: what an earlier one wrote would pass for this one's.
        """
        if (folder / run_id).exists():
            raise ValueError(f"run {run_id} is already in {folder}; name another")
        self.folder, self.run_id, self.execute = folder, run_id, execute
        return self._dag(self.root, Values(_defaults(self.root) | arguments), Path()) is not None

    def _dag(self, component: dict[str, Any], given: Values, place: Path) -> Values | None:
        """What the group gives, or None when a task of it failed. place: of its outputs, below the run's folder."""
        tasks = component["dag"]["tasks"]
        outputs: dict[str, Values | None] = {}
        states: dict[str, str] = {}
        for name in in_order(tasks):
            task = tasks[name]
            trigger, before = task.get("triggerPolicy", {}), task.get("dependentTasks", [])
            if trigger.get("strategy") != WHATEVER_HAPPENED and any(states[other] != "succeeded" for other in before):
                states[name] = "skipped"
                continue
            inputs = _resolved(task, given, outputs)
            if "condition" in trigger and not evaluate(trigger["condition"], inputs.parameters):
                states[name] = "skipped"
                continue
            below = self.components[task["componentRef"]["name"]]
            inputs.parameters = _defaults(below) | inputs.parameters
            if "parameterIterator" in task:
                outputs[name] = self._loop(name, task, below, inputs, place)
            elif "dag" in below:
                outputs[name] = self._dag(below, inputs, place)
            else:
                outputs[name] = self._attempts(name, task, below, inputs, place)
            states[name] = "failed" if outputs[name] is None else "succeeded"
        return None if "failed" in states.values() else _given(component, outputs)

    def _loop(
        self, name: str, task: dict[str, Any], below: dict[str, Any], inputs: Values, place: Path
    ) -> Values | None:
        """Every item, so many at a time; what each gives, as lists. One that fails stops no other."""
        iterator = task["parameterIterator"]
        items = json.loads(iterator["items"]["raw"])
        limit = int(task.get("iteratorPolicy", {}).get("parallelismLimit", 0)) or max(1, len(items))

        def once(number: int, item: Any) -> Values | None:
            own = Values(inputs.parameters | {iterator["itemInput"]: item}, inputs.artifacts)
            return self._dag(below, own, place / f"{name}-{number}")

        with ThreadPoolExecutor(limit) as pool:
            made = list(pool.map(once, range(len(items)), items))
        whole = [values for values in made if values is not None]
        if len(whole) < len(items):
            return None
        named = below["dag"].get("outputs", {}).get("parameters", {})
        return Values({key: [values.parameters[key] for values in whole] for key in named})

    def _attempts(
        self, name: str, task: dict[str, Any], component: dict[str, Any], inputs: Values, place: Path
    ) -> Values | None:
        """The task's outputs, or None when it failed as often as it may."""
        retries = int(task.get("retryPolicy", {}).get("maxRetryCount", 0))
        for attempt in range(retries + 1):
            if attempt:
                print(f"{name}: try {attempt + 1} of {retries + 1}", flush=True)
                time.sleep(SECOND)
            if made := self._once(name, component, inputs, self.folder / self.run_id / place / name):
                return made
        return None

    def _once(self, name: str, component: dict[str, Any], inputs: Values, folder: Path) -> Values | None:
        label = component["executorLabel"]
        container = self.executors[label]["container"]
        told = executor_input(component, inputs, folder)
        command = [self._filled(part, told) for part in [*container.get("command", []), *container.get("args", [])]]
        environment = {entry["name"]: entry["value"] for entry in container.get("env", [])}
        if self.execute(label, container["image"], command, environment):
            return None
        if missing := unwritten(told):
            print(f"{name}: ended well but did not write {missing}", flush=True)
            return None
        return _made(told)

    def _filled(self, text: str, told: dict[str, Any]) -> str:
        """A part of the command with its placeholders filled in; ValueError for one that is not known here."""

        def value(match: re.Match[str]) -> str:
            path = match[1]
            if path == "":
                return json.dumps(told)
            if path == ".pipeline_job_uuid":
                return self.run_id
            if found := re.fullmatch(r"\.inputs\.parameters\['([^']+)'\]", path):
                given = told["inputs"]["parameterValues"][found[1]]
                return given if isinstance(given, str) else json.dumps(given)
            if found := re.fullmatch(r"\.outputs\.parameters\['([^']+)'\]\.output_file", path):
                return told["outputs"]["parameters"][found[1]]["outputFile"]
            raise ValueError(f"the placeholder {match[0]} is not known to run-local")

        return PLACEHOLDER.sub(value, text)


def in_order(tasks: dict[str, Any]) -> Iterator[str]:
    """Each task after those that it depends on; ValueError for a circle."""
    done: set[str] = set()
    while len(done) < len(tasks):
        ready = [n for n, task in tasks.items() if n not in done and set(task.get("dependentTasks", [])) <= done]
        if not ready:
            raise ValueError(f"the tasks {', '.join(sorted(set(tasks) - done))} wait for one another")
        yield from ready
        done |= set(ready)


def executor_input(component: dict[str, Any], inputs: Values, folder: Path) -> dict[str, Any]:
    """What Kubeflow passes for `{{$}}`, with the outputs in `folder`."""
    wanted = component.get("outputDefinitions", {})
    artifacts = {
        name: {"name": name, "type": entry["artifactType"], "uri": str(folder / name), "metadata": {}}
        for name, entry in wanted.get("artifacts", {}).items()
    }
    return {
        "inputs": {
            "parameterValues": inputs.parameters,
            "artifacts": {name: {"artifacts": [artifact]} for name, artifact in inputs.artifacts.items()},
        },
        "outputs": {
            "parameters": {name: {"outputFile": str(folder / name)} for name in wanted.get("parameters", {})},
            "artifacts": {name: {"artifacts": [artifact]} for name, artifact in artifacts.items()},
            "outputFile": str(folder / "executor_output.json"),
        },
    }


def unwritten(told: dict[str, Any]) -> str | None:
    """The first output that was asked for and is not there."""
    files = [entry["outputFile"] for entry in told["outputs"]["parameters"].values()]
    files += [entry["artifacts"][0]["uri"] for entry in told["outputs"]["artifacts"].values()]
    return next((file for file in files if not Path(file).exists()), None)


def _made(told: dict[str, Any]) -> Values:
    file = Path(told["outputs"]["outputFile"])
    said = json.loads(file.read_text(encoding="utf-8")).get("artifacts", {}) if file.exists() else {}
    artifacts = {name: entry["artifacts"][0] for name, entry in {**told["outputs"]["artifacts"], **said}.items()}
    parameters = {
        name: Path(entry["outputFile"]).read_text(encoding="utf-8")
        for name, entry in told["outputs"]["parameters"].items()
    }
    return Values(parameters, artifacts)


def _resolved(task: dict[str, Any], given: Values, outputs: dict[str, Values | None]) -> Values:
    """The task's inputs: from what its group was given, from the tasks before, or written down."""
    asked, found = task.get("inputs", {}), Values()
    for name, source in asked.get("parameters", {}).items():
        if "componentInputParameter" in source:
            found.parameters[name] = given.parameters[source["componentInputParameter"]]
        elif "taskOutputParameter" in source:
            place = source["taskOutputParameter"]
            found.parameters[name] = _of(outputs, place["producerTask"]).parameters[place["outputParameterKey"]]
        else:
            found.parameters[name] = source["runtimeValue"]["constant"]
    for name, source in asked.get("artifacts", {}).items():
        if "componentInputArtifact" in source:
            found.artifacts[name] = given.artifacts[source["componentInputArtifact"]]
        else:
            place = source["taskOutputArtifact"]
            found.artifacts[name] = _of(outputs, place["producerTask"]).artifacts[place["outputArtifactKey"]]
    return found


def _given(component: dict[str, Any], outputs: dict[str, Values | None]) -> Values:
    """What a group hands on of its tasks' outputs."""
    wanted = component["dag"].get("outputs", {}).get("parameters", {})
    sources = {key: entry["valueFromParameter"] for key, entry in wanted.items()}
    return Values(
        {
            key: _of(outputs, source["producerSubtask"]).parameters[source["outputParameterKey"]]
            for key, source in sources.items()
        }
    )


def _of(outputs: dict[str, Values | None], task: str) -> Values:
    made = outputs.get(task)
    if made is None:
        raise ValueError(f"no step {task} has given what the pipeline depends on")
    return made


def _defaults(component: dict[str, Any]) -> dict[str, Any]:
    asked = component.get("inputDefinitions", {}).get("parameters", {})
    return {name: entry["defaultValue"] for name, entry in asked.items() if "defaultValue" in entry}


def _refuse_unknown(component: dict[str, Any]) -> None:
    """ValueError for what a compiled pipeline may hold and is not walked here: imports, loops over what a step makes,
    artifacts of groups."""
    if "dag" not in component:
        return
    outputs = component["dag"].get("outputs", {})
    if set(outputs) - {"parameters"} or any(
        set(one) != {"valueFromParameter"} for one in outputs.get("parameters", {}).values()
    ):
        raise ValueError("run-local knows of a group's outputs parameters of one task alone")
    for name, task in component["dag"]["tasks"].items():
        if unknown := sorted(set(task) - TASK):
            raise ValueError(f"step {name}: run-local knows no {', '.join(unknown)}")
        if "parameterIterator" in task and set(task["parameterIterator"]["items"]) != {"raw"}:
            raise ValueError(f"step {name}: run-local knows no loop over a list that a step makes")
