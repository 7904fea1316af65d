"""A condition is decided on the value that a step gave, or refused: never skipped in silence."""

import pytest

from pipelines.conditions import evaluate

PASSED = "inputs.parameter_values['pipelinechannel--validate-passed'] == 'true'"


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("false", False), ("true' or 'x", False)])
def test_one_of_several_outputs_of_a_step_decides(value: str, expected: bool) -> None:
    given = {"pipelinechannel--validate-passed": value, "pipelinechannel--validate-note": "don't"}
    assert evaluate(PASSED, given) is expected


def test_a_value_that_nobody_gave_is_an_error() -> None:
    with pytest.raises(ValueError, match="no step has given pipelinechannel--validate-passed"):
        evaluate(PASSED, {})


@pytest.mark.parametrize("condition", ["", f"!({PASSED})", f"{PASSED} && {PASSED}", PASSED.replace("==", "!=")])
def test_another_form_is_refused(condition: str) -> None:
    with pytest.raises(ValueError, match="only the comparison"):
        evaluate(condition, {"pipelinechannel--validate-passed": "true"})
