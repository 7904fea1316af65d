"""What MLflow 3 shows of a version beside its run: a logged model with its scores, each linked to the images tested."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hymunet import metrics
from hymunet.evaluation.record import EMPTY

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

MODEL_TAG = "hymunet.logged_model"  # of a version; its own field is for versions whose files the logged model holds
CONTEXT = "mlflow.data.context"  # MLflow's own name for what a data set was used for
DIGEST = 36  # characters that MLflow's tables have for one


def log(client: "MlflowClient", run_id: str, name: str, content: str, tested: Mapping[str, Any]) -> str | None:
    """Logs the scores to the run, to a model of this content and to its test images; returns the model's id.

    tested: metrics.json. The files stay the run's artifacts. The same content is one logged model. Servers older than
    MLflow 3 have none: scores go to the run alone, and None is returned.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"source": tested["source"], "test_images_sha256": tested["test_images_sha256"]})
    images = Dataset(f"{tested['source']} test images", tested["test_images_sha256"][:DIGEST], "hymunet", source)
    model_id = _model(client, run_id, name, content)
    linked = {} if model_id is None else {"model_id": model_id, "run_id": run_id}
    client.log_inputs(run_id, [DatasetInput(images, [InputTag(CONTEXT, "evaluation")])])
    client.log_batch(run_id, metrics=_scores(tested["test"], images, linked))
    return model_id


def _scores(test: Mapping[str, Any], images: Any, linked: Mapping[str, str]) -> list["Metric"]:
    from mlflow.entities import Metric

    named = {"dataset_name": images.name, "dataset_digest": images.digest}
    found = {score: test[score]["mean"] for score in metrics.SCORES}
    found |= {name: test[name] for name in EMPTY if test.get("without_lesion")}
    return [Metric(f"test/{name}", value, 0, 0, **named, **linked) for name, value in found.items()]


def _model(client: "MlflowClient", run_id: str, name: str, content: str) -> str | None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND, ErrorCode
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

    experiment = client.get_run(run_id).info.experiment_id
    try:
        found = client.search_logged_models([experiment], f"tags.`hymunet.content` = '{content}'")
        if found:
            return found[0].model_id
        tags = {"hymunet.content": content, MLFLOW_MODEL_IS_EXTERNAL: "true"}
        made = client.create_logged_model(experiment, name, run_id, tags=tags, model_type="segmentation")
        client.finalize_logged_model(made.model_id, "READY")
        return made.model_id
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(ENDPOINT_NOT_FOUND):
            return None
        raise
