"""What a model's training took, as its MLflow run tells."""

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAUSE = 3.0  # times the median epoch: what is longer was interrupted, and counts so much


def spent(client: "MlflowClient", run_id: str) -> str:
    """Time without pauses, device and memory in a sentence or three; empty where the training was not tracked."""
    times = sorted({metric.timestamp for metric in client.get_metric_history(run_id, "epoch")})
    gaps = [(after - before) / 1000 for before, after in pairwise(times)]
    if not gaps:
        return ""
    usual = median(gaps)
    seconds = usual + sum(min(gap, PAUSE * usual) for gap in gaps)  # when the first epoch began is not recorded
    run = client.get_run(run_id).data
    device = run.tags.get("hymunet.device", "a device that was not recorded")
    memory = run.metrics.get("peak_memory_bytes")
    peak = f" Peak memory: {memory / 2**30:.1f} GiB." if memory else ""
    return f"Training took {_words(seconds)} over {len(times)} epochs on {device}.{peak} Energy was not measured."


def _words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
