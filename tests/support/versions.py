"""Versions in a registry, laid out as registering lays them out, made in a moment and with no evaluation."""

import json
from pathlib import Path
from typing import Any

from hymunet import models


def untrained(folder: Path, image_size: int, seed: int) -> Path:
    """A small U-Net's folder."""
    import torch

    torch.manual_seed(seed)
    section = {"name": "unet", "size": "small"}
    info = {"model": section, "image_size": image_size, "threshold": 0.5}
    models.save(models.build(models.section(section), image_size), info, folder)
    return folder


def add(client: Any, name: str, model: Path, threshold: float, folder: Path) -> str:
    """Another version of `name`; returns its number. folder: for its evaluation's record."""
    weights = json.loads((model / "model.json").read_text())["weights_sha256"]
    run = client.create_run("0").info
    record = folder / "metrics.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"weights_sha256": weights, "threshold": threshold, "flips": False}))
    client.log_artifacts(run.run_id, str(model), "model/artifacts/model")
    client.log_artifact(run.run_id, str(record), "model/evaluation")
    return str(client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id).version)
