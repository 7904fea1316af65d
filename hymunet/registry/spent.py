"""What a model's training took, as its MLflow run tells."""

from itertools import pairwise
from statistics import mean, median
from typing import TYPE_CHECKING

from hymunet.training.tracking.gpus import WATTS

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAUSE = 3.0  # times the median epoch: what is longer was interrupted, and counts so much


def spent(client: "MlflowClient", run_id: str) -> str:
    """Time without pauses, device, memory and energy, in sentences; empty where the training was not tracked."""
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
    drawn = [metric.value for metric in client.get_metric_history(run_id, WATTS)]
    energy = f"Its GPUs used {_energy(mean(drawn) * seconds)}." if drawn else "Energy was not measured."
    return f"Training took {_words(seconds)} over {len(times)} epochs on {device}.{peak} {energy}"


def _energy(joules: float) -> str:
    hours = joules / 3600
    return f"{hours:.1f} Wh" if hours < 1000 else f"{hours / 1000:.1f} kWh"


def _words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
