"""The training loop beside a plain one, and what each of its guarantees costs.

The plain loop is what most papers ship: float32, NCHW, images decoded and augmented anew in every epoch, the loss read
back and logged to MLflow in every step, AdamW as it comes. Same model, same scan kernel, same loss, same batch; the two
take turns in one process, so that both meet the same machine. Time is processor time of that process on one thread:
what else runs on the machine does not count, and the ratio is that of the images per second of a machine left alone.
A third row gives the plain loop the scan that a paper without a kernel would use, made of stock torch operations.

`python -m benchmarks.training --json benchmarks/results/training.json`; the images are ISIC 2018's (HYMUNET_ISIC_DIR,
or shared/data beside the project).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
IMAGES, MASKS = "ISIC2018_Task1-2_Training_Input.zip", "ISIC2018_Task1_Training_GroundTruth.zip"
COUNT, VALIDATION, TEST = 96, 4, 4
LOOPS = ("ours", "plain", "plain, stock scan")


def read_files(folder: Path) -> list[tuple[bytes, bytes]]:
    """The encoded files of the first pairs, as a plain loop would find them on its disk."""
    with zipfile.ZipFile(folder / IMAGES) as images, zipfile.ZipFile(folder / MASKS) as masks:
        names = sorted(name for name in images.namelist() if name.endswith(".jpg"))[:COUNT]
        by_id = {
            Path(name).stem.removesuffix("_segmentation"): name for name in masks.namelist() if name.endswith(".png")
        }
        return [(images.read(name), masks.read(by_id[Path(name).stem])) for name in names]


def decode(pair: tuple[bytes, bytes], size: int) -> tuple[np.ndarray, np.ndarray]:
    image, mask = (np.frombuffer(content, np.uint8) for content in pair)
    picture = cv2.resize(cv2.imdecode(image, cv2.IMREAD_COLOR_RGB), (size, size), interpolation=cv2.INTER_AREA)
    labels = cv2.resize(cv2.imdecode(mask, cv2.IMREAD_GRAYSCALE), (size, size), interpolation=cv2.INTER_NEAREST)
    return picture, (labels > 127).astype(np.uint8)


def write_prepared(folder: Path, files: list[tuple[bytes, bytes]], size: int) -> None:
    images, masks = zip(*(decode(pair, size) for pair in files), strict=True)
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
    content["train"] |= {"batch_size": batch_size, "augment": "device", "workers": 0}
    checked = params.check(content)
    return checked.model, checked.train


def our_steps(folder: Path, size: str, batch_size: int) -> Iterator[None]:
    from hymunet.data.dataset import TrainingData
    from hymunet.training import device
    from hymunet.training.distributed import Ranks
    from hymunet.training.learner import Learner

    device.make_deterministic()
    learner = Learner(*sections(size, batch_size), TrainingData(folder, folder / "split.csv"), Ranks())
    for images, masks in learner.batches():
        learner.learn(images, masks)
        yield


def plain_steps(folder: Path, files: list, size: str, batch_size: int, pixels: int, backend: str) -> Iterator[None]:
    import albumentations
    import mlflow
    from torch.utils.data import DataLoader, Dataset

    from hymunet import models
    from hymunet.losses import HybridLoss

    augment = albumentations.Compose(
        [albumentations.HorizontalFlip(), albumentations.VerticalFlip(), albumentations.Rotate(limit=(-15, 15), p=1.0)]
    )

    class Files(Dataset):
        def __len__(self) -> int:
            return COUNT - VALIDATION - TEST

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            image, mask = decode(files[index], pixels)
            result = augment(image=image, mask=mask)
            tensor = torch.from_numpy(result["image"].astype(np.float32) / 127.5 - 1).permute(2, 0, 1).contiguous()
            return tensor, torch.from_numpy(result["mask"]).float()[None]

    section, train = sections(size, batch_size)
    model = models.build(section).train()
    for module in model.modules():
        if hasattr(module, "backend"):
            module.backend = backend
    loss_function = HybridLoss(train.loss_weights, train.dice_smoothing, train.boundary_radius)
    optimizer = torch.optim.AdamW(model.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    step = 0
    with mlflow.start_run(nested=True):
        while True:
            for images, masks in DataLoader(Files(), batch_size, shuffle=True, drop_last=True):
                optimizer.zero_grad()
                loss = loss_function(model(images), masks)
                loss.backward()
                optimizer.step()
                mlflow.log_metric("loss", loss.item(), step=step)
                step += 1
                yield


def steps_of(loop: str, folder: Path, files: list, size: str, batch_size: int, pixels: int) -> Iterator[None]:
    if loop == "ours":
        return our_steps(folder, size, batch_size)
    return plain_steps(folder, files, size, batch_size, pixels, "auto" if loop == "plain" else "export")


def timed(action: Callable[[], Any]) -> float:
    begin = time.process_time()
    action()
    return time.process_time() - begin


def compare(folder: Path, files: list, size: str, batch_size: int, pixels: int, rounds: int) -> dict[str, Any]:
    """Median processor seconds a step, the loops taking turns."""
    loops = {loop: steps_of(loop, folder, files, size, batch_size, pixels) for loop in LOOPS}
    seconds: dict[str, list[float]] = {loop: [] for loop in LOOPS}
    for turn in range(rounds + 1):
        for loop, steps in loops.items():
            if loop == "plain, stock scan" and turn > 1:
                continue  # many times slower: one turn is enough to see it
            torch.use_deterministic_algorithms(loop == "ours")
            spent = timed(lambda steps=steps: next(steps))  # type: ignore[misc]
            if turn:  # the first step allocates and imports
                seconds[loop].append(spent)
    median = {loop: statistics.median(values) for loop, values in seconds.items()}
    return {
        "images_per_cpu_second": {loop: round(batch_size / value, 2) for loop, value in median.items()},
        "ratio_to_plain": round(median["plain"] / median["ours"], 2),
        "ratio_to_plain_with_stock_scan": round(median["plain, stock scan"] / median["ours"], 2),
        "peak_memory_MiB": {loop: peak_memory(loop, size, batch_size, pixels) for loop in LOOPS[:2]},
    }


def peak_memory(loop: str, size: str, batch_size: int, pixels: int) -> int:
    """Of a process that does nothing but two steps."""
    command = [sys.executable, "-m", "benchmarks.training", "--alone", loop, "--sizes", size]
    command += ["--batch", str(batch_size), "--pixels", str(pixels)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split()[-1])


def guarantees(folder: Path, batch_size: int, rounds: int) -> dict[str, float]:
    """Per cent of a small model's training time that each guarantee takes, at the default five minutes a checkpoint."""
    from hymunet.data.dataset import TrainingData
    from hymunet.training.checkpoint import Checkpoints
    from hymunet.training.distributed import Ranks
    from hymunet.training.learner import Learner
    from hymunet.training.storage import Folder
    from hymunet.training.tracking import Journal

    model, train = sections("small", batch_size)
    learner = Learner(model, train, TrainingData(folder, folder / "split.csv"), Ranks())
    steps: dict[bool, list[float]] = {True: [], False: []}
    for turn, (images, masks) in zip(range(2 * rounds + 2), learner.batches(), strict=False):
        deterministic = turn % 2 == 0
        torch.use_deterministic_algorithms(deterministic)
        spent = timed(lambda images=images, masks=masks: learner.learn(images, masks))  # type: ignore[misc]
        if turn > 1:
            steps[deterministic].append(spent)
    step = statistics.median(steps[True])
    checkpoints = Checkpoints(Folder(folder / "checkpoints"), {})
    saves = [_wall(lambda: checkpoints.save(learner.checkpoint())) for _ in range(5)]
    with Journal(folder / "journal", {}) as journal:
        lines = [timed(lambda n=n: journal.metrics(n, {"loss": 0.5, "images_per_second": 40.0})) for n in range(500)]  # type: ignore[misc]
        syncs = [_wall(journal.sync) for _ in range(5)]
    interval = 60 * train.checkpoint_minutes
    share = {
        "determinism": 100 * (statistics.median(steps[True]) / statistics.median(steps[False]) - 1),
        "checkpoints": 100 * statistics.median(saves) / interval,
        "journal": 100 * (statistics.mean(lines) / 10 / step + statistics.median(syncs) / interval),
    }
    return {name: round(value, 3) for name, value in {**share, "total": sum(share.values())}.items()}


def _wall(action: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["small", "base", "large"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", choices=LOOPS, help="two steps of one loop, then the peak memory in MiB")
    arguments = parser.parse_args()
    source = Path(os.environ.get("HYMUNET_ISIC_DIR") or ROOT.parent / "shared" / "data")
    if not (source / IMAGES).is_file():
        parser.error(f"{source}: {IMAGES} is not here; name its folder with HYMUNET_ISIC_DIR")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    from hymunet.training import device

    files = read_files(source)
    with tempfile.TemporaryDirectory(prefix="hymunet-benchmark-") as name:
        folder = Path(name)
        write_prepared(folder, files, arguments.pixels)
        if arguments.alone:
            steps = steps_of(arguments.alone, folder, files, arguments.sizes[0], arguments.batch, arguments.pixels)
            for _ in range(2):
                next(steps)
            print(device.peak_memory_bytes(torch.device("cpu")) // 2**20)
            return 0
        result: dict[str, Any] = {
            "machine": device.describe(torch.device("cpu")),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "bfloat16_in_hardware": device.computes_in_bfloat16(torch.device("cpu")),
            "batch": arguments.batch,
            "pixels": arguments.pixels,
            "guarantees_per_cent": guarantees(folder, arguments.batch, arguments.rounds),
            "models": {},
        }
        print(f"guarantees, per cent: {json.dumps(result['guarantees_per_cent'])}", flush=True)
        for size in arguments.sizes:
            outcome = compare(folder, files, size, arguments.batch, arguments.pixels, arguments.rounds)
            result["models"][f"hymunet {size}"] = outcome
            print(f"hymunet {size}: {json.dumps(outcome)}", flush=True)
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
