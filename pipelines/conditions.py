"""Conditions of a compiled pipeline, decided as a cluster would, or not at all."""

import re
from typing import Any

COMPARISON = re.compile(r"inputs\.parameter_values\['([^']+)'\]\s*==\s*'([^']*)'")


def evaluate(condition: str, parameters: dict[str, Any]) -> bool:
    """`condition` as Kubeflow writes `dsl.If(step.outputs[name] == "text")`; `parameters`: the inputs of the group.

    Raises ValueError for any other condition, and for a value that nobody has given.
    """
    comparison = COMPARISON.fullmatch(" ".join(condition.split()))
    if comparison is None:
        raise ValueError(f"condition {condition!r}: only the comparison of one step's output with a text is run here")
    if comparison[1] not in parameters:
        raise ValueError(f"no step has given {comparison[1]}, on which the pipeline depends")
    return parameters[comparison[1]] == comparison[2]
