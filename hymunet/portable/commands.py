"""`hymunet export` and `hymunet bundle`. Heavy libraries are imported when they run."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def add_export(export: argparse.ArgumentParser) -> None:
    export.add_argument("--output", type=Path, required=True, metavar="FILE.onnx")
    real = "images (as predict takes them) on which file and model are compared; Dice must agree within 1e-4"
    export.add_argument("--check", action="append", default=[], metavar="SOURCE", help=real)
    export.set_defaults(run=run_export)


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
    from hymunet.prediction import bundled
    from hymunet.registry.load import open_segmenter

    segmenter, authority = open_segmenter(arguments.model, arguments.evaluation, device="cpu")
    target = arguments.output or bundled.FOLDER
    size = bundled.pack(segmenter, target, arguments.training, arguments.licence, arguments.scores)
    print(f"{target}: {size / 1e6:.1f} MB, threshold {segmenter.threshold:g} ({authority}); read its {bundled.CARD}")


def run_export(arguments: argparse.Namespace) -> None:
    from hymunet.portable import export

    export.check(arguments.output)
    pictures = images_of(arguments.check) if arguments.check else None

    from hymunet.registry.load import open_segmenter

    segmenter, authority = open_segmenter(arguments.model, arguments.evaluation, device="cpu")
    found = export.export(segmenter, arguments.output, pictures)
    kind = "images" if arguments.check else "drawn images (--check takes real ones)"
    print(
        f"{arguments.output}: on {found.images} {kind} ONNX Runtime agrees with the model to {found.probability:.1e} "
        f"of a probability; {found.differing} pixels differ, all at the threshold; Dice {found.dice:.6f}"
    )
    print(f"lesion where the probability exceeds {segmenter.threshold:g} ({authority})")


def images_of(sources: Sequence[str]) -> Iterator["np.ndarray"]:
    """One at a time, with progress; ValueError naming the first that cannot be read."""
    from tqdm import tqdm

    from hymunet.images import rgb
    from hymunet.prediction.sources import entries

    found = entries(sources, Path("/nonexistent"))
    return (rgb(entry.read(), entry.shown) for entry in tqdm(found, unit="image", disable=None))
