"""The experiment that trainings are told of in: MLFLOW_EXPERIMENT_NAME, by default `hymunet`."""

import os
from typing import TYPE_CHECKING

from hymunet.mlflow_store.address import EXPERIMENT, artifact_root, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient


def experiment_id(client: "MlflowClient") -> str:
    """Makes it where there is none. ValueError when it was deleted: MLflow keeps its name and takes no runs for it."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    found = client.get_experiment_by_name(name)
    if found is None:
        root = artifact_root(tracking_uri())
        return client.create_experiment(name, str(root / name) if root else None)
    if found.lifecycle_stage != "active":
        raise ValueError(
            f"the experiment {name} was deleted there; bring it back (mlflow experiments restore --experiment-id "
            f"{found.experiment_id}) or name another in MLFLOW_EXPERIMENT_NAME"
        )
    return found.experiment_id
