"""The Kubeflow contract of `prepare`: decodes every image once, on all the processors it gets."""

from kfp import dsl

from components.container import Needs, bridge

NEEDS = Needs(cpu="4", memory="8Gi", disk="60Gi", hours=6, retries=2)


@dsl.container_component
def prepare(
    params: str, lock_before: dsl.Input[dsl.Artifact], lock: dsl.Output[dsl.Artifact], metrics: dsl.Output[dsl.Metrics]
) -> dsl.ContainerSpec:  # type: ignore[no-untyped-def]
    return bridge("prepare")
