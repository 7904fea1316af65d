"""Small inputs of a training in the documented format: real dermoscopy images where at hand, drawn ones else."""

import hashlib
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hymunet import params
from hymunet.data.check.verdict import write_verdict

ROOT = Path(__file__).resolve().parents[2]
IMAGES, MASKS = "ISIC2018_Task1-2_Training_Input.zip", "ISIC2018_Task1_Training_GroundTruth.zip"


@dataclass(frozen=True)
class Inputs:
    """A folder with prepared/, split/split.csv and verdict.json."""

    folder: Path

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared"

    @property
    def split(self) -> Path:
        return self.folder / "split" / "split.csv"

    @property
    def verdict(self) -> Path:
        return self.folder / "verdict.json"

    def arguments(self) -> list[str]:
        return ["--prepared", str(self.prepared), "--split", str(self.split), "--verdict", str(self.verdict)]


def isic_folder() -> Path | None:
    """Where the official archives lie: HYMUNET_ISIC_DIR, or shared/data beside the project."""
    for folder in (os.environ.get("HYMUNET_ISIC_DIR"), ROOT.parent / "shared" / "data"):
        if folder and (Path(folder) / IMAGES).is_file():
            return Path(folder)
    return None


def drawn(count: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Discs on noisy ground: images (count, size, size, 3), masks (count, size, size)."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    centre, radius = random.uniform(0.3, 0.7, (count, 2)) * size, random.uniform(0.15, 0.3, count) * size
    masks = np.stack([(columns - x) ** 2 + (rows - y) ** 2 < r**2 for (x, y), r in zip(centre, radius, strict=True)])
    images = 180 - 90 * masks[..., None] + random.normal(0, 20, (count, size, size, 3))
    return images.clip(0, 255).astype(np.uint8), masks.astype(np.uint8)


def real(count: int, size: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` pairs of ISIC 2018, resized."""
    images, masks = [], []
    with zipfile.ZipFile(folder / IMAGES) as image_file, zipfile.ZipFile(folder / MASKS) as mask_file:
        names = sorted(name for name in image_file.namelist() if name.endswith(".jpg"))[:count]
        for name in names:
            mask_name = next(n for n in mask_file.namelist() if Path(n).name.startswith(f"{Path(name).stem}_"))
            image = cv2.imdecode(np.frombuffer(image_file.read(name), np.uint8), cv2.IMREAD_COLOR_RGB)
            mask = cv2.imdecode(np.frombuffer(mask_file.read(mask_name), np.uint8), cv2.IMREAD_GRAYSCALE)
            images.append(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA))
            masks.append(cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST) // 255)
    return np.stack(images), np.stack(masks)


def write_inputs(folder: Path, images: np.ndarray, masks: np.ndarray, validation: int, test: int) -> Inputs:
    inputs = Inputs(folder)
    inputs.prepared.mkdir(parents=True)
    inputs.split.parent.mkdir()
    np.save(inputs.prepared / "images.npy", images)
    np.save(inputs.prepared / "masks.npy", masks)
    digest = hashlib.sha256(images.tobytes() + masks.tobytes()).hexdigest()
    (inputs.prepared / "prepare.json").write_text(json.dumps({"sha256": digest}))
    names = ["train"] * (len(images) - validation - test) + ["validation"] * validation + ["test"] * test
    lines = [f"image{row:04d},{row},{name}" for row, name in enumerate(names)]
    inputs.split.write_text("\n".join(["id,group,split", *lines]) + "\n")
    write_verdict(inputs.verdict, True, inputs.prepared, inputs.split)
    return inputs


def sections(**changes: Any) -> tuple[params.Model, params.Train]:
    """The project's model and train sections, made small; changes name keys of either."""
    content = params.read_yaml(ROOT / "params.yaml")
    small = {"epochs": 2, "batch_size": 4, "workers": 0, "example_every": 1}
    for key, value in {**small, **changes}.items():
        content["train" if key in params.Train.model_fields else "model"][key] = value
    checked = params.check(content)
    return checked.model, checked.train


def write_params(path: Path, **changes: Any) -> Path:
    """A params.yaml with these model and train keys."""
    content = params.read_yaml(ROOT / "params.yaml")
    model, train = sections(**changes)
    content["model"], content["train"] = model.model_dump(), train.model_dump()
    path.write_text(json.dumps(content))  # JSON is YAML
    return path


def written(folder: Path) -> dict[str, str]:
    """File of the model and of the reports → SHA-256: short enough to be shown where two trainings differ."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("model", "reports")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }
