"""`hymunet export`, `benchmark` and `bundle`. Heavy libraries are imported when they run."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hymunet.places import require_folder

if TYPE_CHECKING:
    import numpy as np

SMALLER = ("float16", "int8")
PROGRAM = "torch-export"


def add_export(export: argparse.ArgumentParser) -> None:
    export.add_argument("--output", type=Path, required=True, metavar="FILE.onnx")
    real = "images (as predict takes them) on which file and model are compared; Dice must agree within 1e-4"
    export.add_argument("--check", action="append", default=[], metavar="SOURCE", help=real)
    smaller = "float16 (weights) or int8 (layers, calibrated on the training images of --prepared): written where "
    smaller += "the Dice lost on its validation images is known to be below 0.005; torch-export: FILE.pt2, a package "
    smaller += "of torch.export, from images of the model's size to probabilities"
    forms = ("float32", *SMALLER, PROGRAM)
    export.add_argument("--format", choices=forms, default="float32", help=smaller)
    _add_prepared(export)
    export.set_defaults(run=run_export)


def add_benchmark(benchmark: argparse.ArgumentParser) -> None:
    _add_prepared(benchmark)
    benchmark.add_argument("--images", type=int, metavar="N", help="of the test part, at most (all)")
    benchmark.add_argument("--json", type=Path, metavar="FILE", help="write the figures, too")
    benchmark.set_defaults(run=run_benchmark)


def _add_prepared(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--prepared", type=Path, default=Path("data/prepared"), help="prepared images (data/prepared)")
    verb.add_argument("--split", type=Path, default=Path("data/split/split.csv"), help="(data/split/split.csv)")


def add_bundle(bundle: argparse.ArgumentParser) -> None:
    bundle.add_argument("--output", type=Path, help="folder (hymunet/bundled in this checkout, so that wheels hold it)")
    for name, text in (
        ("training", "for the card: data, split and settings, in a sentence"),
        ("scores", "for the card: test scores and on which images, in a sentence"),
        ("licence", "for the card: of the weights and of the images they were trained on"),
    ):
        bundle.add_argument(f"--{name}", required=True, metavar="TEXT", help=text)
    bundle.set_defaults(run=run_bundle)


def run_bundle(arguments: argparse.Namespace) -> None:
    from hymunet import bundled
    from hymunet.portable.target import require_packages
    from hymunet.registry.load import open_segmenter, require_there

    require_packages()
    target = arguments.output or bundled.FOLDER
    require_folder(target)
    require_there(arguments.model, arguments.evaluation)

    from hymunet.portable import export
    from hymunet.prediction.packing import pack

    segmenter, authority = open_segmenter(arguments.model, arguments.evaluation, device="cpu")
    size = pack(segmenter, target, arguments.training, arguments.licence, arguments.scores)
    export.export_packed(target)
    print(f"{target}: {size / 1e6:.1f} MB, and as much again as ONNX; read its {bundled.CARD}")
    print(f"lesion where the probability exceeds {segmenter.threshold:g} ({authority})")


def run_export(arguments: argparse.Namespace) -> None:
    from hymunet.portable import target
    from hymunet.registry.load import open_segmenter, require_there

    if arguments.format == PROGRAM:
        target.check_program(arguments.output)
    else:
        target.check_onnx(arguments.output)
    if arguments.format == PROGRAM and arguments.check:
        raise ValueError(f"--check compares ONNX files; {PROGRAM} is compared on drawn images")
    if arguments.format != "float32" and arguments.check:
        raise ValueError(f"--check compares float32 files; {arguments.format} is judged on the images of --prepared")
    pictures = images_of(arguments.check) if arguments.check else None
    if arguments.format in SMALLER:
        require_prepared(arguments)
    require_there(arguments.model, arguments.evaluation)

    from hymunet.portable import export, program

    segmenter, authority = open_segmenter(arguments.model, arguments.evaluation, device="cpu")
    if arguments.format == PROGRAM:
        difference = program.write(segmenter, arguments.output)
        print(f"{arguments.output}: read back, it agrees with the model to {difference:.1e} of a probability")
    elif arguments.format == "float32":
        found = export.export(segmenter, arguments.output, pictures)
        kind = "images" if arguments.check else "drawn images (--check takes real ones)"
        print(
            f"{arguments.output}: on {found.images} {kind} ONNX Runtime agrees with the model to "
            f"{found.probability:.1e} of a probability; {found.differing} pixels differ, all at the threshold; "
            f"Dice {found.dice:.6f}"
        )
    else:
        from hymunet.portable.prepared import open_images

        images = open_images(segmenter, arguments.prepared, arguments.split, "validation")
        row = export.export_smaller(segmenter, arguments.output, arguments.format, images)
        print(f"{arguments.output}: {row.told}")
    print(f"lesion where the probability exceeds {segmenter.threshold:g} ({authority})")


def run_benchmark(arguments: argparse.Namespace) -> None:
    if arguments.images is not None and arguments.images < 1:
        raise ValueError(f"--images {arguments.images} must be at least 1")
    if arguments.json:
        from hymunet.streams import require_place

        require_place(arguments.json)
    require_prepared(arguments)

    from hymunet.registry.load import open_segmenter, require_there

    require_there(arguments.model, arguments.evaluation)

    from hymunet.portable import benchmark
    from hymunet.portable.prepared import open_images

    segmenter, authority = open_segmenter(arguments.model, arguments.evaluation, device="cpu")
    images = open_images(segmenter, arguments.prepared, arguments.split, "test", arguments.images)
    record = benchmark.benchmark(segmenter, images)
    print(benchmark.table(record))
    print(f"over {record['images']} test images, {record['threads']} threads, one image at a time ({authority})")
    if arguments.json:
        from hymunet.streams import hand_over

        hand_over(json.dumps(record, indent=1) + "\n", arguments.json)


def require_prepared(arguments: argparse.Namespace) -> None:
    from hymunet.data.feed import dataset

    dataset.require_prepared(arguments.prepared, arguments.split)


def images_of(sources: Sequence[str]) -> Iterator["np.ndarray"]:
    """One at a time, with progress; ValueError naming the first that cannot be read."""
    from tqdm import tqdm

    from hymunet.images import rgb
    from hymunet.prediction.sources import entries

    found = entries(sources, Path("/nonexistent"))
    return (rgb(entry.read(), entry.shown) for entry in tqdm(found, unit="image", disable=None))
