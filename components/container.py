"""What the steps' Kubeflow contracts share: the command line of the bridge, and what a step asks of its machine."""

from kfp import dsl

from components.needs import Needs as Needs


def bridge(stage: str, *options: str) -> dsl.ContainerSpec:
    """The stage of dvc.yaml in a container; the image is set by the pipeline."""
    return dsl.ContainerSpec(
        image="hymunet",
        command=["python", "-m", "pipelines.step"],
        args=[
            "--stage",
            stage,
            "--run",
            dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            "--params",
            "{{$.inputs.parameters['params']}}",
            "--executor-input",
            "{{$}}",
            *options,
        ],
    )
