"""A study as a Kubeflow pipeline: the data once, every cell in a pod of its own, so many at a time, and the tables.

What is known is not computed: the data's stages by DVC's run cache, cells by what `hymunet study run --store` and these
pods share. So a run that was stopped is started again, and a study that was begun on a workstation goes on here.
Whatever happened, the exit handler tells what became of every cell.
"""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kfp import compiler, dsl

from components.container import Needs
from components.train.component import NEEDS as TRAINING
from hymunet.study.plan import Cell
from pipelines.settings import Settings
from pipelines.study_text import LAST
from pipelines.training import LIGHT, conclude, place, reported

NAME = "hymunet-study"
DATA = Needs(cpu="4", memory="16Gi", disk="100Gi", hours=24, retries=3, image="data")
TABLES = Needs(cpu="2", memory="8Gi", disk="10Gi", hours=3, retries=3)
INPUTS = ["--executor-input", "{{$}}"]
RUN = ["--run", dsl.PIPELINE_JOB_ID_PLACEHOLDER]
STUDY = ["--study", "{{$.inputs.parameters['study']}}"]


@dsl.container_component
def study_data(study: str, data: dsl.Output[dsl.Artifact]) -> dsl.ContainerSpec:  # type: ignore[no-untyped-def]
    """The data of every set, once for all cells."""
    return dsl.ContainerSpec(
        image="hymunet", command=["python", "-m", "pipelines.study_data"], args=[*STUDY, *RUN, *INPUTS]
    )


@dsl.container_component
def study_cell(  # type: ignore[no-untyped-def]
    study: str,
    cell: str,
    data: dsl.Input[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    verdict: dsl.OutputPath(str),  # type: ignore[valid-type]
) -> dsl.ContainerSpec:
    """One training and its test."""
    named = ["--cell", "{{$.inputs.parameters['cell']}}"]
    return dsl.ContainerSpec(
        image="hymunet", command=["python", "-m", "pipelines.study_cell"], args=[*STUDY, *RUN, *named, *INPUTS]
    )


@dsl.container_component
def study_tables(  # type: ignore[no-untyped-def]
    study: str,
    verdicts: list,  # type: ignore[type-arg]
    data: dsl.Input[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    lock: dsl.Output[dsl.Artifact],
) -> dsl.ContainerSpec:
    """The comparison."""
    told = ["--verdicts", "{{$.inputs.parameters['verdicts']}}"]
    return dsl.ContainerSpec(
        image="hymunet", command=["python", "-m", "pipelines.study_tables"], args=[*STUDY, *RUN, *told, *INPUTS]
    )


def define(settings: Settings, text: str, cells: list[Cell], parallel: int) -> Callable[..., Any]:
    """text: the study as `study_text.packed` gives it. parallel: cells at a time; a cell computes on one GPU."""
    one = settings.accelerator.model_copy(update={"count": 1}) if settings.accelerator else None
    of_cells = settings.model_copy(update={"accelerator": one})

    @dsl.pipeline(name=NAME, description="HyM-UNet: a comparison of models. Research use only.")
    def study(study: str = text) -> None:
        with reported(settings, [*(cell.name for cell in cells), LAST], json.loads(text)["study"]["sets"]):
            made = place(study_data(study=study), DATA, settings)
            with dsl.ParallelFor([cell.name for cell in cells], parallelism=parallel, name="cells") as name:
                cell = study_cell(study=study, cell=name, data=made.outputs["data"])
                place(cell, replace(TRAINING, retries=20), of_cells)
            verdicts = dsl.Collected(cell.outputs["verdict"])
            tables = study_tables(study=study, verdicts=verdicts, data=made.outputs["data"])
            place(tables, TABLES, settings)
            place(conclude(lock_before=tables.outputs["lock"]), LIGHT, settings).set_retry(0)

    return study


def compile_study(settings: Settings, text: str, cells: list[Cell], parallel: int, output: Path) -> None:
    """Writes the YAML. ValueError for settings that do not fit each other, or that cells cannot be shared by."""
    settings.check()
    if "://" in settings.dvc_remote and not settings.dvc_remote.startswith("s3://"):
        raise ValueError(f"dvc_remote = {settings.dvc_remote!r}: a study's cells are shared in s3://… or in a folder")
    if parallel < 1:
        raise ValueError(f"--parallel {parallel} must be at least 1")
    output.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        compiler.Compiler().compile(define(settings, text, cells, parallel), str(output))
