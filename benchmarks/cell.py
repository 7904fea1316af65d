"""One cell of a results table: a whole training on prepared images, its model scored once on the test images.

    python -m benchmarks.cell --prepared data/prepared --split data/split/split.csv --output cells/unet-0 \\
        --model unet --seed 0

In the output folder: the model and its report, `evaluation/metrics.json` and `evaluation/per_image.csv`, and
`cell.json`: parameters, machine, seconds. The same command goes on where it was interrupted.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.training_loops import ROOT


def sections(profile: str, name: str, size: str, seed: int, changes: list[str]) -> Any:
    """The sections of a params file: a profile over the paper's protocol, and `key=value` of the section train."""
    import io

    from ruamel.yaml import YAML

    from hymunet import params, profiles

    text = (ROOT / "profiles/paper.yaml").read_text()
    overlay = {} if profile == "paper" else params.read_yaml(ROOT / f"profiles/{profile}.yaml")
    yaml = YAML(typ="safe", pure=True)
    train = {key: yaml.load(io.StringIO(value)) for key, value in (change.split("=", 1) for change in changes)}
    for part in (
        overlay,
        {"model": {"name": name, "size": size}, "train": {"seed": seed, "example_every": 0, **train}},
    ):
        text = profiles.overlaid(text, part)
    return params.check(yaml.load(io.StringIO(text)), f"profile {profile}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--profile", default="paper")
    parser.add_argument("--model", default="hymunet")
    parser.add_argument("--size", default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the section train")
    parser.add_argument("--closed", action="store_true", help="leave the test images alone: validation only")
    arguments = parser.parse_args()

    import torch

    from hymunet.training import device, trainer

    checked = sections(arguments.profile, arguments.model, arguments.size, arguments.seed, arguments.set)
    folder = arguments.output
    paths = trainer.Paths(
        prepared=arguments.prepared,
        split=arguments.split,
        model=folder / "model",
        reports=folder / "training",
        checkpoints=str(folder / "checkpoints"),
        journal=folder / "journal",
    )
    start = time.monotonic()
    code = trainer.train(checked.model, checked.train, paths)
    if code:
        return code
    seconds = time.monotonic() - start
    used = device.choose(0)
    record = {
        "model": checked.model.model_dump(),
        "train": checked.train.model_dump(),
        "machine": device.describe(used),
        "torch": torch.__version__,
        "training_seconds": round(seconds, 1),
        "peak_memory_bytes": device.peak_memory_bytes(used),
    }
    (folder / "cell.json").write_text(json.dumps(record, indent=2) + "\n")
    if arguments.closed:
        return 0
    from hymunet.evaluation.evaluate import evaluate

    scores = evaluate(paths.model, paths.prepared, paths.split, paths.reports, folder / "evaluation", checked.evaluate)[
        "test"
    ]
    print(f"cell: test Dice {scores['dice']['mean']:.4f} in {seconds:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
