"""Batch prediction as a Kubeflow pipeline: a version of the registry, over every image of a bucket or a volume."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import compiler, dsl

from components.container import Needs
from pipelines import batch
from pipelines.settings import Settings
from pipelines.training import LIGHT, conclude, place, reported

NAME = "hymunet-predict"
WORK = Needs(cpu="8", memory="16Gi", disk="20Gi", hours=72, retries=10, shared_memory="1Gi", accelerator=True)
INPUTS = ["--run", dsl.PIPELINE_JOB_ID_PLACEHOLDER, "--executor-input", "{{$}}"]
PARTS = ["resolve", "predict"]


@dsl.container_component
def resolve(  # type: ignore[no-untyped-def]
    model: str,
    version: dsl.OutputPath(str),  # type: ignore[valid-type]
    lock: dsl.Output[dsl.Artifact],
) -> dsl.ContainerSpec:
    """The version that an alias names now."""
    named = ["--model", "{{$.inputs.parameters['model']}}"]
    return dsl.ContainerSpec(image="hymunet", command=["python", "-m", "pipelines.resolve"], args=[*named, *INPUTS])


@dsl.container_component
def predict_images(  # type: ignore[no-untyped-def]
    model: str,
    source: str,
    target: str,
    save: str,
    reference: str,
    lock_before: dsl.Input[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    lock: dsl.Output[dsl.Artifact],
) -> dsl.ContainerSpec:
    """Masks, a table with confidences, and the distance from the training's images."""
    named = [
        word
        for name in ("model", "source", "target", "save", "reference")
        for word in (f"--{name}", f"{{{{$.inputs.parameters['{name}']}}}}")
    ]
    return dsl.ContainerSpec(
        image="hymunet", command=["python", "-m", "pipelines.predict_images"], args=[*named, *INPUTS]
    )


def define(settings: Settings, asked: dict[str, str]) -> Callable[..., Any]:
    """asked: the parameters' defaults: model, source, target, save, reference."""
    one = settings.accelerator.model_copy(update={"count": 1}) if settings.accelerator else None

    @dsl.pipeline(name=NAME, description="HyM-UNet: masks for every image. Research use only.")
    def predict(
        model: str = asked["model"],
        source: str = asked["source"],
        target: str = asked["target"],
        save: str = asked["save"],
        reference: str = asked["reference"],
    ) -> None:
        with reported(settings, PARTS):
            found = place(resolve(model=model), LIGHT, settings)
            images = predict_images(
                model=found.outputs["version"],
                source=source,
                target=target,
                save=save,
                reference=reference,
                lock_before=found.outputs["lock"],
            )
            place(images, WORK, settings.model_copy(update={"accelerator": one}))
            place(conclude(lock_before=images.outputs["lock"]), LIGHT, settings).set_retry(0)

    return predict


def compile_predict(settings: Settings, asked: dict[str, str], output: Path) -> None:
    """Writes the YAML. ValueError for what cannot be asked for."""
    settings.check()
    for name in ("source", "target"):
        batch.require_place(name, asked[name], settings)
    batch.require_apart(asked["source"], asked["target"])
    batch.require_version(asked["model"])
    batch.kinds(asked["save"])
    output.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        compiler.Compiler().compile(define(settings, asked), str(output))
