"""A finished training in miniature, in the pipeline's own files: for tests of what comes after training.

Forty drawn images at 32 pixels and a HyM-UNet that has learnt from them for a few seconds, so that its scores vary.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SIZE, IMAGES, TEST = 32, 40, 12
MODEL = {"name": "hymunet", "size": "small", "drop_path": 0.0}


@pytest.fixture(scope="session")
def finished_training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's root. Read it, copy it, do not write into it."""
    return build(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def unet_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/prepared, data/split and artifacts/model of a U-Net, which has no scan and so exports in seconds."""
    root = tmp_path_factory.mktemp("unet")
    images, masks, hashes = write_data(root / "data")
    info = {"run_key": "unet", **hashes}
    train(images[:20], masks[:20], 30, info, root / "artifacts/model", {"name": "unet", "size": "small"})
    return root


def build(root: Path, steps: int = 30) -> Path:
    """Writes data/prepared, data/split, artifacts/model and reports/training below `root`."""
    import cv2

    from hymunet.data.check.verdict import write_verdict

    images, masks, hashes = write_data(root / "data")
    write_verdict(root / "reports/validation/verdict.json", True, root / "data/prepared", root / "data/split/split.csv")
    reports = root / "reports/training"
    reports.mkdir(parents=True)
    cv2.imwrite(str(reports / "curves.png"), np.full((8, 8, 3), 127, np.uint8))
    train(images[:20], masks[:20], steps, {"run_key": f"key{steps:04}", **hashes}, root / "artifacts/model")
    return root


def write_data(folder: Path) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Writes prepared/ and split/ into `folder`; returns images, masks (0 and 1) and the hashes of data and split."""
    import cv2

    from hymunet.data.acquire.synthetic import draw
    from hymunet.data.prepare.manifest import facts, write_manifest
    from hymunet.data.prepare.native import NATIVE_MASKS, NativeMasks, encoded
    from hymunet.evidence import prepared_sha256

    images, masks = zip(*(draw(index, SIZE, seed=7) for index in range(IMAGES)), strict=True)
    prepared, split = folder / "prepared", folder / "split"
    for part in (prepared, split):
        part.mkdir(parents=True)
    np.save(prepared / "images.npy", np.stack(images))
    np.save(prepared / "masks.npy", np.stack(masks) // 255)
    ids = [f"CASE_{index:04}" for index in range(IMAGES)]
    rows = [
        {"id": id, "official_split": "", **facts(f"image {id}".encode(), f"mask {id}".encode(), image, mask // 255)}
        for id, image, mask in zip(ids, images, masks, strict=True)
    ]
    write_manifest(rows, prepared / "manifest.parquet")
    with NativeMasks(prepared / NATIVE_MASKS) as native:
        for id, mask in zip(ids, masks, strict=True):
            native.add(id, encoded(cv2.resize(mask // 255, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)))
    data_hash = prepared_sha256(prepared)
    description = {"source": "synthetic", "image_size": SIZE, "images": IMAGES, "dropped": {}, "sha256": data_hash}
    (prepared / "prepare.json").write_text(json.dumps(description))
    names = ["train"] * 20 + ["validation"] * 8 + ["test"] * TEST
    text = "id,group,split\n" + "".join(f"{id},{id},{name}\n" for id, name in zip(ids, names, strict=True))
    (split / "split.csv").write_text(text)
    split_hash = hashlib.sha256(text.encode()).hexdigest()
    summary = {"protocol": "grouped", "seed": 0, "sizes": {"train": 20, "validation": 8, "test": TEST}}
    (split / "split.json").write_text(json.dumps({**summary, "sha256": split_hash}))
    return np.stack(images), np.stack(masks) // 255, {"data_sha256": data_hash, "split_sha256": split_hash}


def train(
    images: np.ndarray,
    masks: np.ndarray,
    steps: int,
    info: dict[str, str],
    folder: Path,
    section: Mapping[str, Any] = MODEL,
) -> None:
    import torch

    from hymunet import models
    from hymunet.images import normalise
    from hymunet.losses import HybridLoss

    torch.manual_seed(0)
    model = models.build(models.section(dict(section)), SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    loss = HybridLoss((1, 1, 0.5), 1.0, 2)
    inputs, truth = normalise(torch.from_numpy(images)), torch.from_numpy(masks)[:, None].float()
    for step in range(steps):
        chosen = torch.arange(8) + 8 * (step % 2)
        optimizer.zero_grad()
        loss(model(inputs[chosen]), truth[chosen]).backward()
        optimizer.step()
    description = {"model": dict(section), "image_size": SIZE, "threshold": 0.5, "epoch": 1, "validation_dice": 0.5}
    models.save(model, {**description, **info}, folder)
