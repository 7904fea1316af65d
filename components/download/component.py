"""The Kubeflow contract of `download`: network and disk, hardly a processor."""

from kfp import dsl

from components.container import Needs, bridge

NEEDS = Needs(cpu="1", memory="2Gi", disk="40Gi", hours=12, retries=5)


@dsl.container_component
def download(params: str, lock: dsl.Output[dsl.Artifact], metrics: dsl.Output[dsl.Metrics]) -> dsl.ContainerSpec:  # type: ignore[no-untyped-def]
    return bridge("download")
