"""A study in miniature: three small models, two seeds, forty drawn images; one model can be made to crash."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "epochs": 12,
    "batch_size": 4,
    "workers": 0,
    "example_every": 0,
    "checkpoint_minutes": 60.0,
    "precision": "float32",
    "learning_rate": 1e-2,
}
MODEL = """
from typing import Literal
from hymunet.models.spec import ModelSection, Spec

class Section(ModelSection):
    name: Literal["ward_net"]

def build(section, image_size):
    from torch import nn
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 1, 3, padding=1)
        def forward(self, images):
            {FORWARD}
            return self.layer(images)
    return Net()

SPEC = Spec(section=Section, build=build, stride=lambda section: 1, tiny={})
"""
CRASHES, WORKS = 'raise RuntimeError("the planted crash")', "pass"
NETS = {
    "unet": {"title": "U-Net", "model": {"name": "unet", "size": [4, 8]}, "published": {"dice": 87.03, "hd95": 4.74}},
    "ward": {"title": "Ward | net & co", "model": {"name": "resunet", "size": [4, 8]}},
    "attention": {"title": "Attention U-Net", "model": {"name": "attention_unet", "size": [4, 8]}},
}


def definition(**changes: Any) -> dict[str, Any]:
    return {
        "title": "Three small models",
        "base": "paper.yaml",
        "params": {"prepare": {"image_size": 32}, "train": SMALL, "evaluate": {"bootstrap": 100}},
        "reference": "unet",
        "seeds": [0, 1],
        "models": {
            "unet": {"title": "U-Net", "model": {"name": "unet", "size": [4, 8]}, "published": {"dice": 87.03}},
            "ward": {"title": "Ward | net", "model": {"name": "ward_net"}},
            "attention": {"title": "Attention U-Net", "model": {"name": "attention_unet", "size": [4, 8]}},
        },
        "sets": {"drawn": {"title": "Drawn lesions"}},
        "tables": {
            "table_1": {"title": "Table 1", "models": ["unet", "attention", "ward"], "notes": ["Drawn images."]},
        },
        **changes,
    }


def write_study(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "profiles/paper.yaml", folder)
    (folder / "study.yaml").write_text(json.dumps(definition(**changes)))  # JSON is YAML
    return folder


def install_model(folder: Path, forward: str) -> Path:
    """The package of `ward_net`, to be named in PYTHONPATH."""
    info = folder / "ward_net-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (folder / "ward_net.py").write_text(MODEL.replace("{FORWARD}", forward))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ward-net\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hymunet.models]\nward_net = ward_net:SPEC\n")
    return folder


def environment(packages: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "HYMUNET_"))}
    paths = os.pathsep.join([str(packages), str(ROOT)])
    return {**own, "PYTHONPATH": paths, "HYMUNET_TRACKING": "off", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def command(verb: str, study: Path, *options: object) -> list[str]:
    return [sys.executable, "-m", "hymunet.cli", "study", verb, str(study), *map(str, options)]


class Study:
    """A study in `folder`, run as a user runs it. One of its models can be `ward_net`, which crashes."""

    def __init__(self, folder: Path, study: Path, *options: object) -> None:
        self.folder, self.study, self.work = folder, study, folder / "work"
        self.packages = install_model(folder / "packages", CRASHES)
        self.options = ["--work", self.work, *options]

    def start(self, verb: str, *options: object) -> subprocess.Popen[str]:
        line = command(verb, self.study, *self.options, *options)
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(line, cwd=self.folder, env=environment(self.packages), text=True, **pipes)

    def run(self, verb: str, *options: object) -> tuple[int, str, str]:
        process = self.start(verb, *options)
        out, error = process.communicate()
        return process.returncode, out, error

    def stopped(self, number: int, enough: Callable[[dict[str, list[int]]], bool]) -> tuple[int, str]:
        """Run until the epochs that this run has told of are enough, then told to stop."""
        before = self.epochs()
        process = self.start("run")
        while not enough({name: told[len(before.get(name, [])) :] for name, told in self.epochs().items()}):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(number)
        _, error = process.communicate()
        return process.returncode, error

    def logs(self) -> dict[str, str]:
        """Of every cell that was started, by `model/seed-N`."""
        found = self.work.glob("cells/*/*/*/log.txt")
        return {f"{path.parent.parent.name}/{path.parent.name}": path.read_text() for path in found}

    def epochs(self) -> dict[str, list[int]]:
        """The epochs that each cell tells of, over all its starts."""
        return {name: [int(n) for n in re.findall(r"epoch (\d+)/", log)] for name, log in self.logs().items()}

    def results(self) -> dict[str, float]:
        """When each cell was published."""
        found = self.study.glob("results/*/*/*/cell.json")
        return {f"{path.parent.parent.name}/{path.parent.name}": path.stat().st_mtime for path in found}


def drawn_rows(model: str, seed: int, size: int = 32, images: int = 12) -> list[dict[str, Any]]:
    """Scores of images whose hardness all models share; the later a model's name, the worse it does."""
    import numpy as np

    hardness = np.random.default_rng(1).integers(0, 60, images)
    off = np.random.default_rng([seed, len(model)]).integers(0, 25, images) + 10 * sorted(MODELS).index(model)
    rows = []
    for number in range(images):
        counts = {"true_positive": 200, "false_positive": int(hardness[number]), "false_negative": int(off[number])}
        distance = float(hardness[number] + off[number]) / 10
        hit, over, short = list(counts.values())[:3]
        counts["true_negative"] = size**2 - sum(counts.values())
        scores = {
            "dice": 2 * hit / (2 * hit + over + short),
            "iou": hit / (hit + over + short),
            "precision": hit / (hit + over),
            "sensitivity": hit / (hit + short),
            "specificity": 1 - over / (over + counts["true_negative"]),
        }
        group = f"IMAGE_{0 if number == 1 else number:02}"
        row = {
            "id": f"IMAGE_{number:02}",
            "group": group,
            **scores,
            "hd95": distance,
            "hd95_fraction": distance / (size * 2**0.5),
        }
        rows.append({**row, **counts})
    return rows


MODELS = ("attention", "unet", "ward")


def publish(
    study: Path, model: str, seed: int, rows: list[dict[str, Any]], fold: int | None = None, **said: Any
) -> Path:
    """A cell's result with these scores, as if it had been computed; `said`: what its record says otherwise."""
    import csv
    import hashlib
    import io
    import tempfile

    from hymunet.evaluation.record import SCHEMA
    from hymunet.study import plan, results
    from hymunet.training import identity

    planned = plan.load(study)
    cell = plan.Cell("drawn", model, seed, fold)
    content = planned.checked(cell)
    train = {key: value for key, value in content.train.model_dump().items() if key not in identity.IMMATERIAL}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    made_from = {"data_sha256": "d" * 64, "split_sha256": f"{fold or 0}" * 64, "training_code": "", "scoring_code": ""}
    record = {
        "cell": {"name": cell.name, "images": "drawn", "model": model, "seed": seed, "fold": fold},
        "settings": {
            "model": content.model.model_dump(),
            "train": train,
            "evaluate": content.evaluate.model_dump(),
            "image_size": content.prepare.image_size,
        },
        "made_from": made_from,
        "weights_sha256": "a" * 64,
        "validation_dice": 0.5,
        "commit": "c" * 40,
        "machine": "a drawn machine",
        "training_seconds": 10.0,
        "parameters": 2_500_000,
        "gmacs": 1.25,
        "images_per_second": {"trained": 30.0, "inferred": {"1": 50.0, "24": 400.0}},
        **said,
    }
    digest = hashlib.sha256(text.getvalue().encode()).hexdigest()
    of_test = {"schema": SCHEMA, **record["made_from"], "weights_sha256": "a" * 64, "per_image_sha256": digest}
    of_test["test"] = {"dice": {"mean": 0.5}}
    with tempfile.TemporaryDirectory() as folder:
        contents = {"per_image.csv": text.getvalue(), "metrics.json": json.dumps(of_test), "history.json": "[]"}
        for name, written in contents.items():
            (Path(folder) / name).write_text(written)
        results.publish(planned.results(cell), record, {name: Path(folder) / name for name in contents})
    return planned.results(cell)
