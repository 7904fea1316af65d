"""The Kubeflow contract of `train`: the one step that wants an accelerator; retried, it goes on from its checkpoint."""

from kfp import dsl

from components.container import Needs, bridge

NEEDS = Needs(cpu="8", memory="32Gi", disk="30Gi", hours=72, retries=10, shared_memory="8Gi", accelerator=True)


@dsl.container_component
def train(
    params: str,
    lock_before: dsl.Input[dsl.Artifact],
    lock: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    model: dsl.Output[dsl.Model],
) -> dsl.ContainerSpec:  # type: ignore[no-untyped-def]
    return bridge("train", "--model", "artifacts/model")
