"""The Kubeflow contract of `validate`: the data checks; what they refuse is an output, and the pipeline's gate."""

from kfp import dsl

from components.container import Needs, bridge

NEEDS = Needs(cpu="1", memory="4Gi", disk="10Gi", hours=1, retries=2, image="data")


@dsl.container_component
def validate(
    params: str,
    lock_before: dsl.Input[dsl.Artifact],
    lock: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    passed: dsl.OutputPath(str),
) -> dsl.ContainerSpec:  # type: ignore[no-untyped-def]
    return bridge(
        "validate",
        "--report",
        "reports/validation/report.html",
        "--verdict",
        "reports/validation/verdict.json",
    )
