"""One parameter changed: the stages that read it run, and those whose inputs it changed; on a workstation and in
containers alike, on the real pipeline.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from hymunet.params import read_yaml
from tests.containers.stack import RESTORED, STEPS, Stack, checkout, dvc, ran

pytestmark = [pytest.mark.containers, pytest.mark.integration, pytest.mark.timeout(1800)]
MODELLING = {"train", "evaluate", "register"}
# The data pass under either bound: of the checks training depends on the verdict, which is then the same.
CHANGES = {
    "data.synthetic.seed": ("1", STEPS),
    "prepare.image_size": ("48", STEPS - {"download"}),
    "split.seed": ("1", {"split", "validate"} | MODELLING),
    "validate.max_components": ("19", {"validate"}),
    "model.name": ("unet", MODELLING),
    "train.learning_rate": ("2.0e-3", MODELLING),
    "evaluate.bootstrap": ("101", {"evaluate", "register"}),
    "register.model_name": ("other", {"register"}),
}


@pytest.fixture(scope="module")
def stack(new_stack: Callable[..., Stack]) -> Stack:
    return new_stack("parameters")


@pytest.fixture(scope="module")
def clone(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workstation that has what a run in containers has made."""
    code, log = stack.run("base")
    assert code == 0, log[-4000:]
    clone = checkout(stack, tmp_path_factory.mktemp("workstation") / "clone")
    stack.fetch("base", clone)
    return clone


@pytest.mark.parametrize("key", CHANGES)
def test_on_a_workstation(stack: Stack, clone: Path, key: str) -> None:
    value, expected = CHANGES[key]
    before, lock = (clone / "params.yaml").read_text(), (clone / "dvc.lock").read_text()
    section, name = key.split(".")
    old = read_yaml(clone / "params.yaml")[section][name]
    assert str(old) != value
    lines = before.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{section}:"))
    place = next(number for number in range(start, len(lines)) if lines[number].startswith(f"  {name}:"))
    lines[place] = f"  {name}: {value}"
    try:
        (clone / "params.yaml").write_text("\n".join(lines) + "\n")
        assert ran(dvc(stack, clone, "repro")) == expected
    finally:
        (clone / "params.yaml").write_text(before)
        (clone / "dvc.lock").write_text(lock)
        dvc(stack, clone, "checkout")


@pytest.mark.parametrize("key", CHANGES)
def test_in_containers(stack: Stack, clone: Path, key: str) -> None:
    value, expected = CHANGES[key]
    run = key.replace(".", "-")
    code, log = stack.run(run, **{key.replace(".", "__"): value})
    assert code == 0, log[-4000:]
    assert stack.states(run) == RESTORED | dict.fromkeys(expected, "computed")
