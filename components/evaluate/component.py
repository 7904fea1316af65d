"""The Kubeflow contract of `evaluate`: the test images, once."""

from kfp import dsl

from components.container import Needs, bridge

NEEDS = Needs(cpu="4", memory="16Gi", disk="20Gi", hours=6, retries=2, shared_memory="2Gi")


@dsl.container_component
def evaluate(
    params: str,
    lock_before: dsl.Input[dsl.Artifact],
    lock: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> dsl.ContainerSpec:  # type: ignore[no-untyped-def]
    return bridge(
        "evaluate", "--metrics", "reports/evaluation/metrics.json", "--report", "reports/evaluation/report.html"
    )
