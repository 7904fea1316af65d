"""Conditions of a compiled pipeline, decided as a cluster would, or not at all.

kfp's local runner knows the value of a step's output only where it is the step's single one; about any other it warns,
takes the condition for false and skips what stands behind it: the run then ends as a success that did nothing.
"""

import re
from typing import Any

COMPARISON = re.compile(r"inputs\.parameter_values\['pipelinechannel--([^']+)'\]\s*==\s*'([^']*)'")


def evaluate(condition: str, store: Any) -> bool:
    """`condition` as Kubeflow writes `dsl.If(step.outputs[name] == "text")`; `store`: kfp's IOStore.

    Raises ValueError for any other condition, and for a value that no step has given.
    """
    comparison = COMPARISON.fullmatch(" ".join(condition.split()))
    if comparison is None:
        raise ValueError(f"condition {condition!r}: only the comparison of one step's output with a text is run here")
    return _value(comparison[1], store) == comparison[2]


def _value(channel: str, store: Any) -> Any:
    while store is not None:
        for task, outputs in store._task_output_data.items():
            for name, value in outputs.items():
                if channel == f"{task}-{name}":
                    return value
        store = store._parent
    raise ValueError(f"no step has given {channel}, on which the pipeline depends")
