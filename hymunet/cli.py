"""The `hymunet` command. Heavy libraries are imported by the verb that needs them, so that `--help` answers at once."""

import argparse
import errno
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hymunet import __version__, bundled, compiled_parts, extras
from hymunet.addresses import without_secrets
from hymunet.evaluation import commands as evaluation_commands
from hymunet.places import Parser, in_words
from hymunet.portable import commands as portable_commands
from hymunet.prediction import commands as prediction_commands
from hymunet.processors import limit_threads
from hymunet.registry import commands as registry_commands
from hymunet.serving import commands as serving_commands
from hymunet.streams import at_work, by_line
from hymunet.study import commands as study_commands

EVALUATION = "reports/evaluation"
COMPUTING = {"show-augment", "predict", "evaluate", "submission", "export", "benchmark", "bundle", "serve", "study"}


def main(argv: Sequence[str] | None = None) -> int:
    """What a user can get wrong ends in one line on standard error and exit code 1."""
    by_line()
    arguments = parser().parse_args(argv)
    limit_threads()
    try:
        with at_work(f"hymunet {arguments.verb}"):
            if arguments.verb in COMPUTING:
                compiled_parts.require_current()
            return arguments.run(arguments) or 0
    except ValueError as error:
        print(f"hymunet {arguments.verb}: {without_secrets(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        said = without_secrets(in_words(_with_place(error, arguments)))
        print(f"hymunet {arguments.verb}: {said}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if not (line := extras.missing(error, arguments.verb)):
            raise
        print(f"hymunet {arguments.verb}: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"hymunet {arguments.verb}: interrupted", file=sys.stderr)
        return 130


def _with_place(error: OSError, arguments: argparse.Namespace) -> OSError:
    """Of a full disk the system names no file: the folder with the least room is named, of those written to."""
    if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    named = [value.absolute() for value in vars(arguments).values() if isinstance(value, Path)]
    if arguments.verb == "study":
        named.append(study_commands.WORK.absolute())  # where nobody names another one
    places = [next(place for place in (path, *path.parents) if place.is_dir()) for path in named]
    places += [Path.cwd(), Path(os.environ.get("TMPDIR", "/tmp"))]
    fullest = min((place for place in places if place.is_dir() and os.access(place, os.W_OK)), key=_room)
    return OSError(error.errno, os.strerror(error.errno), str(fullest))


def _room(place: Path) -> int:
    return shutil.disk_usage(place).free


def _profiles() -> str:
    """Those of the folder here, for the help text."""
    names = ", ".join(sorted(path.stem for path in Path("profiles").glob("*.yaml")))
    return names.replace("%", "%%") or "none is here (run from the project's root)"


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="hymunet", description="Medical image segmentation with HyM-UNet. Research use only.")
    top.add_argument("--version", action="version", version=f"hymunet {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    def with_params(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added.add_argument("--params", type=Path, default=Path("params.yaml"), help="the parameters' file")
        added.add_argument(
            "-S", "--set", action="append", default=[], metavar="KEY=VALUE", help="a value changed: train.epochs=2"
        )
        return added

    profile = with_params(verb("profile", run_profile, "rewrite params.yaml to a profile of the folder profiles/"))
    profile.add_argument("name", metavar="NAME", help=f"{_profiles()}, or a file of your own in profiles/")
    verb("params", run_params, "print what each key of params.yaml may be")

    shown = with_params(verb("show-augment", run_show_augment, "draw what the training makes of its images, as a PNG"))
    shown.add_argument("--prepared", type=Path, default=Path("data/prepared"), help="the prepared images' folder")
    shown.add_argument("--split", type=Path, default=Path("data/split/split.csv"), help="of it only training images")
    shown.add_argument("--images", type=int, default=6, help="rows (6)")
    shown.add_argument("--epochs", type=int, default=7, help="columns after the image as it is (7)")
    shown.add_argument("--output", type=Path, default=Path("augment.png"), help="the PNG (augment.png)")

    source = "a trained model's folder, models:/NAME@ALIAS or /VERSION, or bundled: the one in the package "
    source += f"({bundled.TRAINED})"

    def with_model(added: argparse.ArgumentParser, several: bool = False) -> argparse.ArgumentParser:
        if several:
            added.add_argument("--model", action="append", help=f"{source}; again: the mean of several")
        else:
            added.add_argument("--model", default=bundled.TRAINED, help=source)
        tested = (
            f"whose threshold, flips and regions are used; of this model (a version's own; {EVALUATION} where it is)"
        )
        added.add_argument("--evaluation", type=Path, help=tested)
        return added

    text = "segment images: masks, contours and more, each at its image's own size; goes on where it was stopped"
    prediction_commands.add(verb("predict", None, text))

    opener = evaluation_commands.Opener(require_model, open_model)
    text = "test a model on images of your own, in folders or prepared: the report of the pipeline's evaluation"
    evaluation_commands.add_evaluate(with_model(verb("evaluate", None, text), several=True), opener)

    text = "two evaluations of the same images, case by case: SECOND less FIRST, as a page, Markdown and JSON"
    evaluation_commands.add_compare(verb("compare", None, text))

    text = "the ZIP of masks that the scorer of ISIC 2018, task 1, takes; and its score, where the truth is known"
    evaluation_commands.add_submission(with_model(verb("submission", None, text)), opener)

    text = "the registry: list and compare versions, promote one, go back, read and check the ledger"
    registry_commands.add(verb("models", None, text), with_params)

    text = "write the model as one ONNX file, images of any size to masks, checked against the model"
    portable_commands.add_export(with_model(verb("export", None, text)))
    text = "a model by every form and runtime there is here, on test images: milliseconds, megabytes, Dice"
    portable_commands.add_benchmark(with_model(verb("benchmark", None, text)))
    text = "pack a trained model to come with the package: float16 weights, description, card"
    portable_commands.add_bundle(with_model(verb("bundle", None, text)))

    serving_commands.add_serve(
        verb("serve", None, "answer HTTP requests with masks, and show a page to try the model on")
    )
    text = "print what a cluster needs to run `serve`: image by digest, model by version and hash"
    serving_commands.add_deploy(verb("deploy", None, text))

    deliver = verb("deliver", run_deliver, "send metrics that MLflow has not got yet from the training journals")
    deliver.add_argument(
        "--checkpoints",
        metavar="PLACE",
        help="a folder or s3://bucket/prefix: also journals kept beside checkpoints",
    )
    deliver.add_argument("--journals", type=Path, help="the folder of all journals (journal)")

    study_commands.add(verb("study", None, "many trainings, compared: models × seeds × sets of images"))

    clean = verb(
        "clean", run_clean, "list what may go because it can be had again, and what that frees; removes nothing"
    )
    clean.add_argument("--yes", action="store_true", help="remove what is listed")

    summary = verb("summary", run_summary, "print the test scores, where the report is, and the registered version")
    summary.add_argument("--reports", type=Path, default=Path("reports"), help="the reports' folder (reports)")
    return top


def require_model(where: str, evaluation: Path | None) -> None:
    from hymunet.registry.load import require_there

    require_there(where, evaluation)


def open_model(where: str, evaluation: Path | None) -> Any:
    from hymunet.registry.load import open_segmenter

    return open_segmenter(where, evaluation)


def run_profile(arguments: argparse.Namespace) -> None:
    from hymunet import profiles

    kept = profiles.write(arguments.name, arguments.params, arguments.set)
    print(f"{arguments.params} now holds the profile {arguments.name}")
    for place in kept:
        print(f"kept, as it says where your images are: {place}")


def run_params(arguments: argparse.Namespace) -> None:
    from hymunet import profiles

    print(profiles.allowed())


def run_show_augment(arguments: argparse.Namespace) -> None:
    from hymunet import params
    from hymunet.data.feed.augment import Recipe
    from hymunet.data.feed.dataset import TrainingData
    from hymunet.data.feed.sheet import require_free, write_sheet

    if arguments.images < 1 or arguments.epochs < 1:
        raise ValueError(f"--images {arguments.images} and --epochs {arguments.epochs} must be at least 1")
    require_free(arguments.output)
    train = params.load(arguments.params, "train", changes=arguments.set).train
    data = TrainingData(arguments.prepared, arguments.split)
    rows = write_sheet(data, Recipe.of(train), train.seed, arguments.images, arguments.epochs, arguments.output)
    print(f"{arguments.output}: {rows} images, as they are and in {arguments.epochs} epochs")


def run_deliver(arguments: argparse.Namespace) -> int:
    from hymunet.training.tracking.worker import deliver_all

    return deliver_all(arguments.journals, arguments.checkpoints)


def run_clean(arguments: argparse.Namespace) -> None:
    from hymunet import clean
    from hymunet.training import checkpoint_store

    place = checkpoint_store.location()
    stored = place.startswith("s3://")
    going, staying = clean.freed(Path(), None if stored else Path(place), clean.compiled_code())
    for item in going:
        print(f"{item.bytes / 1e6:>12,.1f} MB  {item.path}: {item.reason}")
        if arguments.yes:
            clean.remove(item)
    for item in staying:
        print(f"{'stays':>15}  {item.path}: {item.reason}")
    total = f"{sum(item.bytes for item in going) / 1e6:,.1f} MB"
    if stored:
        print(f"not looked at: {place}")
    print(
        f"{total} freed" if arguments.yes else f"{total} would be freed; to remove what is listed: hymunet clean --yes"
    )


def run_summary(arguments: argparse.Namespace) -> None:
    from hymunet import evidence
    from hymunet.evaluation.record import false_alarms
    from hymunet.registry.client import REGISTER

    evaluation, registration = arguments.reports / "evaluation", arguments.reports / "registration/registration.json"
    metrics, again = evaluation / "metrics.json", "run the pipeline first: dvc repro"
    record = evidence.read(metrics, again)
    version = evidence.read(registration, f"register the model: {REGISTER}")
    registered = version.get("metrics_sha256") == evidence.sha256(metrics)
    for name, label in (("dice", "Dice"), ("iou", "IoU"), ("precision", "precision"), ("hd95", "HD95, pixels")):
        mean, low, high = (evidence.field(record, metrics, again, "test", name, key) for key in ("mean", "low", "high"))
        print(f"test {label:<14}{mean:8.4f}   (95 % CI {low:.4f} to {high:.4f})")
    images, missed = (evidence.field(record, metrics, again, "test", key) for key in ("images", "missed"))
    print(f"over {images} images, {missed} missed altogether")
    if alarms := false_alarms(record["test"]):
        print(alarms)
    print(f"report       {evaluation / 'report.html'}")
    if registered:
        name, number, where = (
            evidence.field(version, registration, f"register the model: {REGISTER}", key)
            for key in ("name", "version", "registry")
        )
        print(f"model        {name} version {number} in {where}")
    else:
        print(f"model        not registered: {registration} is of another evaluation; register this one: {REGISTER}")


if __name__ == "__main__":
    sys.exit(main())
