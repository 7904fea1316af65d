"""A condition is decided on the value that a step gave, or refused: never skipped in silence."""

import pytest

pytest.importorskip("kfp", reason="needs the extra `pipelines`")

from kfp.local.io import IOStore

from pipelines.conditions import evaluate

PASSED = "inputs.parameter_values['pipelinechannel--validate-passed'] == 'true'"


def store(value: str) -> IOStore:
    outer = IOStore()
    outer.put_task_output("validate", "passed", value)
    outer.put_task_output("validate", "note", "don't")
    return IOStore(parent=outer)


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("false", False), ("true' or 'x", False)])
def test_one_of_several_outputs_of_a_step_decides(value: str, expected: bool) -> None:
    assert evaluate(PASSED, store(value)) is expected


def test_a_value_that_nobody_gave_is_an_error() -> None:
    with pytest.raises(ValueError, match="no step has given validate-passed"):
        evaluate(PASSED, IOStore())


@pytest.mark.parametrize("condition", ["", f"!({PASSED})", f"{PASSED} && {PASSED}", PASSED.replace("==", "!=")])
def test_another_form_is_refused(condition: str) -> None:
    with pytest.raises(ValueError, match="only the comparison"):
        evaluate(condition, store("true"))
