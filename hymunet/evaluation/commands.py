"""`hymunet evaluate`, `compare`, `submission`: options and output. Heavy libraries are imported by who needs them."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

from hymunet import bundled, evidence, extras
from hymunet.data.splits import Scored
from hymunet.places import require_folder

Parser = argparse.ArgumentParser
EVALUATION = ("metrics.json", "per_image.csv", "panel.png", "report.html")
PLACE = ("images", "masks", "groups", "folder", "prepared", "split", "masks_on", "part")  # which images, and how
COMPARISON = ("comparison.html", "comparison.md", "comparison.json")


class Opener(NamedTuple):
    """Who opens models. Both take its address and an evaluation; `require` raises ValueError, before any heavy import,
    for what is not there; `load` returns the segmenter, and by whose authority it decides."""

    require: Callable[[str, Path | None], None]
    load: Callable[[str, Path | None], tuple[Any, str]]


def add_evaluate(verb: Parser, opener: Opener) -> None:
    """verb: with the options of who opens a model; opener: how one is opened."""
    verb.add_argument("--images", type=Path, metavar="DIR", help="image files; with --masks")
    verb.add_argument("--masks", type=Path, metavar="DIR", help="their masks: NAME.png, NAME_mask.png or alike")
    groups = "with --images and --masks: which belong together, as one patient's do; columns image and group"
    verb.add_argument("--groups", type=Path, metavar="CSV", help=groups)
    layout = "in place of both: a folder with images/ and masks/ in it, or laid out as publishers do"
    verb.add_argument("--folder", type=Path, metavar="DIR", help=layout)
    verb.add_argument("--prepared", type=Path, metavar="DIR", help="or a prepared set, as data/prepared")
    verb.add_argument("--split", type=Path, metavar="CSV", help="of the prepared set only a part of this split")
    part = "which: test, or validation, where a threshold, flips, regions may be chosen; the test stays closed (test)"
    verb.add_argument("--part", choices=get_args(Scored), help=part)
    verb.add_argument("--columns", type=Path, metavar="CSV", help="own slices: a column id, and others")
    bad = "an image without mask, of another size than its mask, damaged: refuse all (stop), or report it and go on"
    verb.add_argument("--on-bad-pair", choices=("stop", "drop"), default="stop", help=bad)
    flips = "average over the mirror images and the half-turn, too: four times the work"
    verb.add_argument("--flips", action="store_true", help=flips)
    region = "keep of each mask its largest region alone: for images of one object"
    verb.add_argument("--largest-region", action="store_true", help=region)
    turned = "where EXIF turns images and masks fit both ways: drawn on the image as shown, or stored (the files tell)"
    verb.add_argument("--masks-on", choices=("shown", "stored"), help=turned)
    verb.add_argument("--shifts", action="store_true", help="also under other light, blur, JPEG, hair, turns")
    verb.add_argument("--output", type=Path, required=True, metavar="DIR", help="for report.html and the figures")
    verb.set_defaults(run=lambda arguments: run_evaluate(arguments, opener))


def run_evaluate(arguments: argparse.Namespace, opener: Opener) -> None:
    extras.require("evaluate", "jinja2", "matplotlib", "scipy")
    evidence.require_free(arguments.output, EVALUATION, "metrics.json", "test_images_sha256")

    from hymunet.evaluation.place import Place
    from hymunet.evaluation.slices import read_table

    place = Place(**{name: getattr(arguments, name) for name in PLACE})
    place.require_there()
    if arguments.columns:
        read_table(arguments.columns)
    names = arguments.model or [bundled.TRAINED]
    if arguments.evaluation and len(names) > 1:
        raise ValueError("--evaluation is of one model; an ensemble's members decide as their own evaluations did")
    for name in names:
        opener.require(name, arguments.evaluation)

    from hymunet.evaluation import external
    from hymunet.evaluation.record import false_alarms, one_group

    segmenter, authority = _opened(names, arguments, opener)
    options = external.Options(arguments.columns, arguments.on_bad_pair, arguments.shifts, authority)
    result = external.evaluate(segmenter, place, arguments.output, options)
    test, left_out = result["test"], result["left_out"]
    over = f"{test['images']} {place.called}, {test['missed']} missed altogether ({authority})"
    print(f"Dice {_interval(test['dice'])} over {over}")
    if alarms := false_alarms(test):
        print(alarms)
    if alone := one_group(result):
        print(alone)
    for id, reason in left_out.items():
        print(f"left out: {id}: {reason}")
    print(f"report: {arguments.output / 'report.html'}")


def _opened(names: list[str], arguments: argparse.Namespace, opener: Opener) -> tuple[Any, str]:
    opened = [opener.load(name, arguments.evaluation) for name in names]
    authority = "; ".join(dict.fromkeys(by for _, by in opened))
    members = [
        replace(
            segmenter,
            flips=segmenter.flips or arguments.flips,
            largest_region=segmenter.largest_region or arguments.largest_region,
        )
        for segmenter, _ in opened
    ]
    if arguments.flips:
        authority += ", over flips"
    if arguments.largest_region:
        authority += ", largest region alone"
    if len(members) == 1:
        return members[0], authority

    from hymunet.evaluation.ensemble import Ensemble

    return Ensemble.of(members, names), f"as the mean of {len(members)} models; {authority}"


def add_compare(verb: Parser) -> None:
    for name in ("first", "second"):
        verb.add_argument(name, type=Path, metavar=name.upper(), help="an evaluation's folder, or a study's cell")
    verb.add_argument("--columns", type=Path, metavar="CSV", help="own slices: a column id, and others")
    verb.add_argument("--output", type=Path, required=True, metavar="DIR", help="for comparison.html, .md and .json")
    verb.set_defaults(run=run_compare)


def run_compare(arguments: argparse.Namespace) -> None:
    extras.require("evaluate", "jinja2", "scipy")
    evidence.require_free(arguments.output, COMPARISON, "comparison.json", "verdict")

    from hymunet.evaluation.report import comparison
    from hymunet.evaluation.report.names import APART

    result = comparison.write(arguments.first, arguments.second, arguments.output, arguments.columns)
    print(result["verdict"])
    if not result["grouped_alike"]:
        print(APART)
    if alarms := comparison.false_alarms(result):
        print(alarms)
    for key in ("first", "second"):
        print(f"failed in {result[key]['name']} alone: {len(result['flips'][f'failed_in_{key}'])} images")
    print(f"page: {arguments.output / 'comparison.html'}")


def add_submission(verb: Parser, opener: Opener) -> None:
    """verb: with the options of who opens a model; opener: how one is opened."""
    images = "the images ISIC_NNNNNNN.jpg: a folder, or the archive as it is downloaded"
    verb.add_argument("--images", type=Path, required=True, metavar="DIR|ZIP", help=images)
    masks = "score it, too, by the official scorer's rules: the true masks, where they are known"
    verb.add_argument("--masks", type=Path, metavar="DIR|ZIP", help=masks)
    verb.add_argument("--output", type=Path, required=True, metavar="FILE.zip", help="the submission")
    verb.set_defaults(run=lambda arguments: run_submission(arguments, opener))


def run_submission(arguments: argparse.Namespace, opener: Opener) -> None:
    if arguments.output.suffix.lower() != ".zip":
        raise ValueError(f"{arguments.output}: name a file that ends with .zip")
    if arguments.output.exists():
        raise ValueError(f"{arguments.output}: exists; name another file, or remove it")
    require_folder(arguments.output.parent)

    from hymunet.evaluation import submission

    submission.require_images(arguments.images)
    if arguments.masks:
        submission.require_masks(arguments.masks)
    segmenter, authority = opener.load(arguments.model, arguments.evaluation)
    written = submission.write(segmenter, arguments.images, arguments.output)
    print(f"{arguments.output}: {written.images:,} masks, {written.empty} of them empty ({authority})")
    if written.images != submission.OFFICIAL:
        print(f"the official test set has {submission.OFFICIAL:,} images; the scorer wants a mask for each")
    if arguments.masks:
        for name, value in submission.score(arguments.output, arguments.masks).items():
            print(f"{name} {value:.4f}")


def _interval(estimate: dict[str, float]) -> str:
    return f"{estimate['mean']:.4f} ({estimate['low']:.4f} to {estimate['high']:.4f})"
