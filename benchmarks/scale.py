"""What the full study takes on many GPUs, and what a million images would change: on paper, from measured figures.

    python -m benchmarks.scale [--into docs/scale.md]

A cell's GPU seconds are its steps at what a step takes (benchmarks/results/models_gpu.json: each model alone on a
card).
Another set counts by its number of images.
The schedule is the pipeline's: the data first, cells in the study's order, each on the first GPU that is free, then the
tables. What `Assumed` holds is assumed, not measured.
"""

import argparse
import heapq
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hymunet import atomic
from hymunet.study import plan

STUDY = Path("studies/comparison")
DATA, STEPS = Path("benchmarks/results/data.json"), Path("benchmarks/results/models_gpu.json")
IMAGES = {"isic2018": 2594, "isic2018_random": 2594, "kvasir": 1000}  # pairs of each set
GPUS = (1, 2, 4, 8, 16, 32, 64, 128)
HALF = 0.5
BLOCK = re.compile(r"(<!-- scale -->\n).*?(<!-- end of scale -->)", re.DOTALL)


@dataclass(frozen=True)
class Assumed:
    """data: seconds until the sets are prepared, split and checked. between: of a training, the part beside its steps'
    time that validation and checkpoints take. pod: of each cell, from its asking for a GPU to its training's first step
    and from its last to its end, with what is compiled. tables: seconds. price: of a GPU hour."""

    data: float = 1800.0
    between: float = 0.12
    pod: float = 120.0
    tables: float = 120.0
    price: float = 3.0


@dataclass(frozen=True)
class Schedule:
    gpus: int
    seconds: float  # from the first pod to the tables
    busy: float  # GPU seconds in which a training ran
    held: float  # GPU seconds for which pods had a GPU

    @property
    def efficiency(self) -> float:
        """The part of the GPUs' time, from the first pod to the last, in which they train."""
        return self.busy / (self.gpus * self.seconds)


def measured() -> dict[str, float]:
    """Model -> seconds of a training step on a card of its own."""
    cases = json.loads(STEPS.read_text(encoding="utf-8"))["cases"]
    return {model: case["trained"]["ms"] / 1000 for model, case in cases.items()}


def cells(known: dict[str, float], assumed: Assumed, study: Path = STUDY) -> list[float]:
    """GPU seconds of every cell of the study, in its order, each of its own schedule."""
    planned = plan.load(study)
    found = []
    for cell in planned.cells:
        content = planned.checked(cell)
        training = int(content.split.fractions[0] * IMAGES[cell.images])
        steps = content.train.epochs * (training // content.train.batch_size)
        found.append(known[cell.model] * steps * (1 + assumed.between))
    return found


def schedule(seconds: Sequence[float], gpus: int, assumed: Assumed) -> Schedule:
    free = [assumed.data] * gpus
    for cell in seconds:
        heapq.heappush(free, heapq.heappop(free) + assumed.pod + cell)
    held = sum(seconds) + assumed.pod * len(seconds)
    return Schedule(gpus, max(free) + assumed.tables, sum(seconds), held)


@dataclass(frozen=True)
class Search:
    """Processor seconds of the near-duplicate search: linear · images + square · images², through two points."""

    linear: float
    square: float

    @classmethod
    def fitted(cls, record: dict) -> "Search":  # type: ignore[type-arg]
        few, many = record["images"]
        large = record["processor_milliseconds_per_image"] / 1000 * many
        small = large / record["growth_of_processor_time"]
        square = (large / many - small / few) / (many - few)
        return cls(large / many - square * many, square)

    def seconds(self, images: int) -> float:
        return self.linear * images + self.square * images**2

    def square_share(self, images: int) -> float:
        return self.square * images**2 / self.seconds(images)


def report(assumed: Assumed = Assumed()) -> str:
    known = measured()
    every = cells(known, assumed)
    planned = plan.load(STUDY)
    runs = [schedule(every, gpus, assumed) for gpus in GPUS]
    wasteful = next((run for run in runs if run.efficiency < HALF), None)
    lines = [
        f"{len(every)} cells of {len(planned.study.models)} models. Training alone: {sum(every) / 3600:.1f} GPU hours.",
        "",
        f"| GPUs | hours | of GPU time, training | GPU hours of pods | at {assumed.price:.2f} a GPU hour |",
        "|---|---|---|---|---|",
        *(
            f"| {run.gpus} | {run.seconds / 3600:.2f} | {run.efficiency:.0%} | {run.held / 3600:.1f} | "
            f"{run.held / 3600 * assumed.price:.0f} |"
            for run in runs
        ),
        "",
        f"Assumed: {assumed.data:.0f} s for the data, {assumed.between:.0%} of a training's steps between them, "
        f"{assumed.pod:.0f} s of each pod around its training, {assumed.tables:.0f} s for the tables. "
        f"The longest cell trains {max(every):.0f} s.",
        f"From {wasteful.gpus} GPUs on, they train less than half of the time that they are there."
        if wasteful
        else "The GPUs train more than half of the time at every size here.",
        "",
    ]
    search = Search.fitted(json.loads(DATA.read_text(encoding="utf-8"))["split"])
    lines += [
        "| images | search for near-duplicates, processor hours | of these by the square |",
        "|---|---|---|",
        *(
            f"| {images:,} | {search.seconds(images) / 3600:,.2f} | {search.square_share(images):.0%} |"
            for images in (2_594, 10_000, 100_000, 1_000_000)
        ),
        "",
        f"Half of it is quadratic at {search.linear / search.square:,.0f} images.",
    ]
    return "\n".join(lines) + "\n"


def filled(document: str, text: str) -> str:
    return BLOCK.sub(lambda match: match[1] + text + match[2], document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, metavar="FILE.md", help="fill its block")
    for name, value in vars(Assumed()).items():
        parser.add_argument(f"--{name}", type=float, default=value, help=f"assumed ({value:g})")
    arguments = parser.parse_args()
    text = report(Assumed(**{name: getattr(arguments, name) for name in vars(Assumed())}))
    print(text)
    if arguments.into:
        atomic.write(arguments.into, filled(arguments.into.read_text(encoding="utf-8"), text))


if __name__ == "__main__":
    main()
