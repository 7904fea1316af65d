"""How fast the loader feeds a training, beside albumentations alone, and how long a step waits for it."""

import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import albumentations
import cv2
import numpy as np
import torch

from hymunet import params
from hymunet.data.acquire.synthetic import draw
from hymunet.data.divide.split import to_csv
from hymunet.data.feed.augment import Recipe
from hymunet.data.feed.dataset import TrainingData
from hymunet.training.device import keep_freed_memory
from hymunet.training.distributed import ranks
from hymunet.training.learner import Learner
from hymunet.training.loading import DeviceLoader, Schedule, Share, WorkerLoader

SIZE, BATCH, RECIPE = 256, 24, Recipe(rotation_degrees=15.0)
ROOT = Path(__file__).resolve().parents[1]


def feeding(quick: bool) -> dict[str, Any]:
    """Images per second over those of albumentations alone on one core, and the waiting share of a step on this CPU."""
    images, steps, rounds = (60, 1, 1) if quick else (240, 8, 5)
    keep_freed_memory()  # as a training does
    with TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, images, SIZE)
        data = TrainingData(folder, folder / "split.csv")
        subset = data.subset("train")
        schedule = Schedule(len(subset), BATCH, epochs=2 if quick else 6, seed=0)
        samples = [subset[position] for position in range(len(subset))]
        cpu = torch.device("cpu")
        loaders: dict[str, WorkerLoader | DeviceLoader] = {
            f"{workers} loader processes": WorkerLoader(subset, RECIPE, workers, cpu) for workers in (0, 1, 2)
        }
        loaders["whole batches on the device, here the CPU"] = DeviceLoader(subset, RECIPE, cpu)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # nothing trains here; a second one would only take a core from the loader processes
        ratios: dict[str, list[float]] = {label: [] for label in loaders}
        for _ in range(rounds):
            alone = _rate_alone(samples, schedule.steps)
            for label, loader in loaders.items():
                ratios[label].append(_rate(loader, schedule) / alone)
        torch.set_num_threads(threads)
        waiting = {workers: _waiting(data, workers, steps) for workers in (0, 1)}
    return {
        "cores": os.cpu_count(),
        "image_size": SIZE,
        "images_per_second_over_albumentations_alone": {
            label: {"median": round(statistics.median(found), 2), "range": [round(min(found), 2), round(max(found), 2)]}
            for label, found in ratios.items()
        },
        "share_of_a_step_spent_waiting": {f"{workers} loader processes": share for workers, share in waiting.items()},
    }


def _write(folder: Path, images: int, size: int) -> None:
    drawn = [draw(index, size, seed=0) for index in range(images)]
    np.save(folder / "images.npy", np.stack([image for image, _ in drawn]))
    np.save(folder / "masks.npy", np.stack([mask // 255 for _, mask in drawn]))
    ids = [f"{index:05}" for index in range(images)]
    names = {id: "validation" if index < 2 else "test" if index < 4 else "train" for index, id in enumerate(ids)}
    (folder / "split.csv").write_text(to_csv({id: id for id in ids}, names))


def _rate_alone(samples: list[tuple[np.ndarray, np.ndarray]], batches: int) -> float:
    """Images per second of the transforms and nothing else, on one core."""
    reach = (-RECIPE.rotation_degrees, RECIPE.rotation_degrees)
    cv2.setNumThreads(0)
    transforms = [
        albumentations.HorizontalFlip(p=0.5),
        albumentations.VerticalFlip(p=0.5),
        albumentations.Rotate(limit=reach, border_mode=cv2.BORDER_REFLECT_101, p=1.0),
    ]
    start = time.perf_counter()
    for index in range(batches * BATCH):
        image, mask = samples[index % len(samples)]
        for transform in transforms:
            found = transform(image=image, mask=mask)
            image, mask = found["image"], found["mask"]
    return batches * BATCH / (time.perf_counter() - start)


def _rate(loader: WorkerLoader | DeviceLoader, schedule: Schedule) -> float:
    """Images per second from the first batch on: loader processes start once in a training."""
    batches = loader.batches(schedule, 0, Share(0, 1))
    next(batches)
    start = time.perf_counter()
    count = sum(len(loader.expand(batch)[0]) for batch in batches)
    return count / (time.perf_counter() - start)


def _waiting(data: TrainingData, workers: int, steps: int) -> float:
    """Of the time of `steps` training steps after the first, the share until their batch was there."""
    sections = params.load(ROOT / "params.yaml", "model", "train")
    changes = {"workers": workers, "batch_size": 4, "epochs": 1, "precision": "float32"}
    section = sections.train.model_copy(update=changes)
    with ranks() as group:
        learner = Learner(sections.model, section, data, group)
        batches = learner.batches()
        learner.learn(next(batches))
        waited, start = 0.0, time.perf_counter()
        for _ in range(steps):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            learner.learn(batch)
        return round(waited / (time.perf_counter() - start), 4)
