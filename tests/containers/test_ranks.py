"""Two ranks in the pipeline's own image, under Kubeflow's bridge and DVC: killed once, they end with the same bytes."""

import re
from collections.abc import Callable

import mlflow
import pytest
from ruamel.yaml import YAML

from tests.containers.stack import STEPS, Stack

pytestmark = [pytest.mark.containers, pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(2400)]
TRAINING = {"train__epochs": "2", "train__checkpoint_minutes": "0.0001", "register__model_name": "ranks"}


def made_by_training(stack: Stack, run: str) -> dict[str, str]:
    """Output -> hash of its content, from the lock that the run left in the store."""
    key = f"dvc/pipeline-runs/{run}/dvc.lock"
    text = stack.s3.client().get_object(Bucket=stack.bucket, Key=key)["Body"].read().decode()
    train = YAML(typ="safe", pure=True).load(text)["stages"]["train"]
    return {out["path"]: out["md5"] for out in train["outs"]}


def test_two_ranks_killed_once_end_with_the_bytes_of_an_undisturbed_training(new_stack: Callable[..., Stack]) -> None:
    """In stores of their own, so that neither finds the other's checkpoints or results."""
    whole, killed = (new_stack(f"ranks-{name}", HYMUNET_RANKS="2") for name in ("whole", "killed"))
    code, log = whole.run("run", **TRAINING)
    assert code == 0, log[-4000:]
    assert "goes on at step" not in log
    code, log = killed.run_and_kill_training("run", **TRAINING)
    assert code == 0, log[-4000:]
    assert re.search(r"train: goes on at step [1-9]\d* of", log), log[-4000:]
    assert killed.states("run") == dict.fromkeys(STEPS, "computed")

    made = made_by_training(whole, "run")
    assert set(made) == {"artifacts/model", "reports/training"}
    assert made_by_training(killed, "run") == made
    client = mlflow.MlflowClient(whole.mlflow.uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert client.search_runs(experiments, "tags.`hymunet.ranks` = '2'"), "no training says that two ranks made it"
