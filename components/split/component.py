"""The Kubeflow contract of `split`: looks for near-duplicates."""

from kfp import dsl

from components.container import Needs, bridge

NEEDS = Needs(cpu="2", memory="4Gi", disk="10Gi", hours=2, retries=2)


@dsl.container_component
def split(
    params: str, lock_before: dsl.Input[dsl.Artifact], lock: dsl.Output[dsl.Artifact], metrics: dsl.Output[dsl.Metrics]
) -> dsl.ContainerSpec:  # type: ignore[no-untyped-def]
    return bridge("split")
