"""Two models and two seeds on images that the demo profile draws, small enough for seconds a cell."""

import json
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = {
    "unet": {"title": "U-Net", "model": {"name": "unet", "size": [4, 8]}},
    "attention": {"title": "Attention U-Net", "model": {"name": "attention_unet", "size": [4, 8]}},
}
CELLS = [f"drawn/{model}/seed-{seed}" for seed in (0, 1) for model in MODELS]


def write(folder: Path, epochs: int = 3) -> Path:
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "profiles/paper.yaml", folder)
    drawn = {"source": "synthetic", "synthetic": {"images": 40, "size": 64}}
    bounds = {"min_images": 20, "mask_area": [0.0, 1.0], "median_mask_area": [0.0, 1.0]}
    train = {"epochs": epochs, "batch_size": 8, "workers": 0, "example_every": 0, "checkpoint_minutes": 0.0001}
    content = {
        "title": "Two models, two seeds",
        "base": "paper.yaml",
        "params": {"prepare": {"image_size": 32}, "train": train, "evaluate": {"bootstrap": 100}},
        "reference": "unet",
        "seeds": [0, 1],
        "models": MODELS,
        "sets": {"drawn": {"title": "Drawn lesions", "params": {"data": drawn, "validate": bounds}}},
        "tables": {"table_1": {"title": "Table 1", "models": list(MODELS)}},
    }
    (folder / "study.yaml").write_text(json.dumps(content))  # JSON is YAML
    return folder
