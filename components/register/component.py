"""The Kubeflow contract of `register`: it always runs, since a registry may not know what DVC's cache does."""

from kfp import dsl

from components.container import Needs, bridge

NEEDS = Needs(cpu="1", memory="4Gi", disk="10Gi", hours=1, retries=5)


@dsl.container_component
def register(
    params: str, lock_before: dsl.Input[dsl.Artifact], lock: dsl.Output[dsl.Artifact], metrics: dsl.Output[dsl.Metrics]
) -> dsl.ContainerSpec:  # type: ignore[no-untyped-def]
    return bridge("register", "--always", "--metrics", "reports/registration/registration.json")
