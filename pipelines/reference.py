"""The images that a model was trained on, as a profile that others are compared with."""

import csv
from pathlib import Path
from typing import Any

from hymunet import evidence
from hymunet.addresses import said
from hymunet.data.prepare.manifest import open_array, read_manifest
from hymunet.evaluation import familiar
from hymunet.prediction import drift
from pipelines import dvc_compat as dvc
from pipelines.records import Run
from pipelines.scratch import scratch
from pipelines.step import SOURCE
from pipelines.workspace import Workspace

DATA = ["data/prepared", "data/split/split.csv"]


def of_run(run: str, remote: str, data_sha256: str | None) -> dict[str, Any]:
    """The profile of a pipeline run's training images, from the data that its lock names.

    data_sha256: of the images that the model was trained on. ValueError where the run is not known or had others,
    OSError where its images cannot be had.
    """
    with scratch() as folder:
        project = Workspace(folder / "project", remote)
        project.create(SOURCE, (SOURCE / "params.yaml").read_text(encoding="utf-8"), [])
        try:
            with project.repo() as repo:
                Run(dvc.remote(repo), run).fetch_lock(project.lock)
                dvc.pull(repo, DATA)
        except (ValueError, OSError):
            raise
        except Exception as error:  # DVC's, the store's client's, which have no common base
            raise ConnectionError(
                f"--reference {run}: its images cannot be pulled ({said(error)}); try again when the store answers, or "
                "name a run whose data are kept"
            ) from error
        data = project.root / "data"
        found = evidence.read(data / "prepared/prepare.json", "name another run")["sha256"]
        if found != data_sha256:
            raise ValueError(
                f"--reference {run}: made of images {found[:12]}, the model of {str(data_sha256)[:12]}; "
                "name the run that trained it"
            )
        return of_folder(data)


def of_folder(data: Path) -> dict[str, Any]:
    """data: laid out as the pipeline's data/. Of its training part."""
    images = open_array(data / "prepared/images.npy")
    with (data / "split/split.csv").open(encoding="utf-8", newline="") as file:
        training = {row["id"] for row in csv.DictReader(file) if row["split"] == "train"}
    rows = []
    for number, row in enumerate(read_manifest(data / "prepared/manifest.parquet")):
        if row["id"] in training:
            rows.append(drift.measured(row["width"], row["height"], row["mask_area"], familiar.seen(images[number])))
    return drift.profile(rows)
