"""The loops that benchmarks.training compares; as a program, one of them, taking a step for every line it is sent.

- `ours`: the project's own, augmenting on the device, here the CPU.
- `plain`: what most papers ship. float32, NCHW, JPEG and PNG decoded in every epoch, the loss read back and logged to
  MLflow in every step, AdamW as it comes. Images are reduced first and augmented then.
- `full-size loader`: the same with the transforms in the order of VM-UNet's public ISIC loader, which normalises in
  float64, flips and rotates at the original size and reduces last.
- `stock scan`: `plain` with a scan made of stock torch operations, which is what it has without a kernel.

The model, the loss, the batch and, but for the last, the scan kernel are the same.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[1]
LOOPS = ("ours", "plain", "full-size loader", "stock scan")
WIDTH, HEIGHT = 1022, 767  # of the commonest originals in ISIC 2018
COUNT, VALIDATION, TEST = 40, 4, 4
Sample = tuple[torch.Tensor, torch.Tensor]


def write_inputs(folder: Path, pixels: int) -> None:
    """`originals/` as JPEG and PNG, and the same images prepared at `pixels`."""
    from hymunet.data.acquire.synthetic import draw

    (folder / "originals").mkdir(parents=True)
    images, masks = [], []
    for index in range(COUNT):
        image, mask = (array[:HEIGHT] for array in draw(index, WIDTH, seed=0))
        Image.fromarray(image).save(folder / "originals" / f"{index:03d}.jpg", quality=95)
        Image.fromarray(mask).save(folder / "originals" / f"{index:03d}.png")
        images.append(cv2.resize(image, (pixels, pixels), interpolation=cv2.INTER_AREA))
        masks.append(cv2.resize(mask, (pixels, pixels), interpolation=cv2.INTER_NEAREST) // 255)
    np.save(folder / "images.npy", np.stack(images))
    np.save(folder / "masks.npy", np.stack(masks))
    (folder / "prepare.json").write_text(json.dumps({"sha256": "benchmark"}))
    names = ["train"] * (COUNT - VALIDATION - TEST) + ["validation"] * VALIDATION + ["test"] * TEST
    rows = [f"{row:04d},{row},{name}" for row, name in enumerate(names)]
    (folder / "split.csv").write_text("\n".join(["id,group,split", *rows]) + "\n")


def sections(size: str, batch_size: int) -> tuple[Any, Any]:
    from hymunet import params

    content = params.read_yaml(ROOT / "params.yaml")
    content["model"]["size"] = size
    content["train"] |= {"batch_size": batch_size, "augment": "device", "workers": 0, "epochs": 10_000}
    checked = params.check(content)
    return checked.model, checked.train


def our_learner(folder: Path, size: str, batch_size: int) -> Any:
    from hymunet.data.feed.dataset import TrainingData
    from hymunet.training import device
    from hymunet.training.distributed import Ranks
    from hymunet.training.learner import Learner

    device.make_deterministic()
    device.keep_freed_memory()
    return Learner(*sections(size, batch_size), TrainingData(folder, folder / "split.csv"), Ranks())


def our_steps(folder: Path, size: str, batch_size: int) -> Iterator[None]:
    learner = our_learner(folder, size, batch_size)
    for batch in learner.batches():
        learner.learn(batch)
        yield


def reduced_first(pixels: int) -> Callable[[Image.Image, Image.Image], Sample]:
    import albumentations

    augment = albumentations.Compose(
        [albumentations.HorizontalFlip(), albumentations.VerticalFlip(), albumentations.Rotate(limit=(-15, 15), p=1.0)]
    )

    def transform(image: Image.Image, mask: Image.Image) -> Sample:
        small = np.asarray(image.resize((pixels, pixels), Image.Resampling.BILINEAR))
        labels = np.asarray(mask.resize((pixels, pixels), Image.Resampling.NEAREST))
        result = augment(image=small, mask=labels)
        tensor = torch.from_numpy(result["image"].astype(np.float32) / 127.5 - 1).permute(2, 0, 1).contiguous()
        return tensor, torch.from_numpy(result["mask"] > 127).float()[None]

    return transform


def full_size_first(pixels: int) -> Callable[[Image.Image, Image.Image], Sample]:
    def transform(image: Image.Image, mask: Image.Image) -> Sample:
        values = (np.asarray(image) - 127.5) / 127.5
        values = (values - values.min()) / (values.max() - values.min()) * 255.0
        x = torch.from_numpy(values).permute(2, 0, 1)[None]
        y = torch.from_numpy(np.asarray(mask) / 255.0)[None, None]
        for axis in (2, 3):
            if torch.rand(()) < 0.5:
                x, y = x.flip(axis), y.flip(axis)
        angle = torch.deg2rad(torch.rand((), dtype=torch.float64) * 30 - 15)
        cos, sin = torch.cos(angle), torch.sin(angle)
        ratio = HEIGHT / WIDTH
        matrix = torch.stack([cos, -sin * ratio, cos * 0, sin / ratio, cos, cos * 0]).view(1, 2, 3)
        grid = functional.affine_grid(matrix, [1, 1, *x.shape[2:]], align_corners=False)
        x, y = (functional.grid_sample(part, grid, "nearest", align_corners=False) for part in (x, y))
        x, y = (functional.interpolate(part, (pixels, pixels), mode="bilinear", antialias=True) for part in (x, y))
        return x[0].float(), y[0].float()

    return transform


def plain_steps(folder: Path, size: str, batch_size: int, transform: Callable, backend: str) -> Iterator[None]:
    import mlflow
    from torch.utils.data import DataLoader, Dataset

    from hymunet import models
    from hymunet.losses import HybridLoss

    class Files(Dataset):
        def __len__(self) -> int:
            return COUNT - VALIDATION - TEST

        def __getitem__(self, index: int) -> Sample:
            image = Image.open(folder / "originals" / f"{index:03d}.jpg").convert("RGB")
            mask = Image.open(folder / "originals" / f"{index:03d}.png").convert("L")
            return transform(image, mask)

    section, train = sections(size, batch_size)
    image_size = np.load(folder / "images.npy", mmap_mode="r").shape[1]
    model = models.build(section, image_size).train()
    for module in model.modules():
        if hasattr(module, "backend"):
            module.backend = backend  # type: ignore[assignment]
    loss_function = HybridLoss(train.loss_weights, train.dice_smoothing, train.boundary_radius)
    optimizer = torch.optim.AdamW(model.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/{os.getpid()}.db")
    mlflow.start_run()
    step = 0
    while True:
        for images, masks in DataLoader(Files(), batch_size, shuffle=True, drop_last=True):
            optimizer.zero_grad()
            loss = loss_function(model(images), masks)
            loss.backward()
            optimizer.step()
            mlflow.log_metric("loss", loss.item(), step=step)
            step += 1
            yield


def steps_of(loop: str, folder: Path, size: str, batch_size: int, pixels: int) -> Iterator[None]:
    if loop == "ours":
        return our_steps(folder, size, batch_size)
    transform = full_size_first(pixels) if loop == "full-size loader" else reduced_first(pixels)
    return plain_steps(folder, size, batch_size, transform, "export" if loop == "stock scan" else "auto")


def main() -> int:
    """Takes a step, which imports and allocates; then one for each line read, answered by its processor seconds and
    the process's peak memory in MiB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loop", choices=LOOPS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("size")
    parser.add_argument("batch", type=int)
    parser.add_argument("pixels", type=int)
    arguments = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    from hymunet.training import device

    steps = steps_of(arguments.loop, arguments.folder, arguments.size, arguments.batch, arguments.pixels)
    next(steps)
    print("ready", file=answers)
    for _ in sys.stdin:
        begin = time.process_time()
        next(steps)
        seconds = time.process_time() - begin
        peak = device.peak_memory_bytes(torch.device("cpu")) // 2**20
        print(json.dumps({"seconds": seconds, "peak_MiB": peak}), file=answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
