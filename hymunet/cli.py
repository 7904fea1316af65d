"""The `hymunet` command. Heavy libraries are imported by the verb that needs them, so that `--help` answers at once."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hymunet.processors import limit_threads

MODEL, EVALUATION = Path("artifacts/model"), Path("reports/evaluation")


def main(argv: Sequence[str] | None = None) -> int:
    """What a user can get wrong ends in one line on standard error and exit code 1."""
    arguments = parser().parse_args(argv)
    limit_threads()
    try:
        return arguments.run(arguments) or 0
    except (ValueError, OSError) as error:
        print(f"hymunet {arguments.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"hymunet {arguments.verb}: interrupted", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="hymunet", description="Medical image segmentation with HyM-UNet. Research use only."
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    def with_params(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added.add_argument("--params", type=Path, default=Path("params.yaml"), help="the parameters' file")
        return added

    profile = with_params(verb("profile", run_profile, "rewrite params.yaml to a profile of the folder profiles/"))
    profile.add_argument("name", metavar="NAME", help="paper, demo, or a file of your own in profiles/")
    verb("params", run_params, "print what each key of params.yaml may be")

    predict = verb("predict", run_predict, "segment images: a mask and an overlay for each, at its own size")
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    predict.add_argument("--model", type=Path, default=MODEL, help=f"the trained model's folder ({MODEL})")
    predict.add_argument(
        "--evaluation", type=Path, default=EVALUATION, help=f"whose threshold and flips are used ({EVALUATION})"
    )
    predict.add_argument("--output", type=Path, required=True, help="folder for NAME_mask.png and NAME_overlay.png")

    models = with_params(verb("models", run_models, "the registry: list versions, move the alias champion"))
    models.add_argument(
        "action",
        choices=("list", "promote", "rollback"),
        help="promote: the challenger becomes champion if at least as good on the same test images; rollback: undo it",
    )
    models.add_argument("--name", help="the registered model (default: register.model_name of the parameters)")

    export = verb("export", run_export, "write the model as one ONNX file, checked against the model")
    export.add_argument("--model", type=Path, default=MODEL, help=f"the trained model's folder ({MODEL})")
    export.add_argument("--output", type=Path, required=True, metavar="FILE.onnx")

    deliver = verb("deliver", run_deliver, "send metrics that MLflow has not got yet from the training journals")
    deliver.add_argument(
        "--checkpoints",
        metavar="PLACE",
        help="a folder or s3://bucket/prefix: also journals kept beside checkpoints",
    )
    deliver.add_argument("--journals", type=Path, default=Path("journal"), help="the folder of all journals (journal)")

    summary = verb("summary", run_summary, "print the test scores, where the report is, and the registered version")
    summary.add_argument("--reports", type=Path, default=Path("reports"), help="the reports' folder (reports)")
    return top


def run_profile(arguments: argparse.Namespace) -> None:
    from hymunet import profiles

    profiles.write(arguments.name, arguments.params)
    print(f"{arguments.params} now holds the profile {arguments.name}")


def run_params(arguments: argparse.Namespace) -> None:
    from hymunet import profiles

    print(profiles.allowed())


def run_predict(arguments: argparse.Namespace) -> None:
    names = [path.stem for path in arguments.images]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two images are named {twice[0]}; their masks would overwrite each other")

    import cv2
    from tqdm import tqdm

    from hymunet import atomic, images, inference, models
    from hymunet.evaluation.pictures import overlay

    model, info = models.load(arguments.model, inference.device())
    tested = arguments.evaluation / "metrics.json"
    chosen = _read(tested) if tested.is_file() else {"threshold": info["threshold"], "flips": False}
    threshold, flips = chosen["threshold"], chosen["flips"]
    for path in tqdm(arguments.images, unit="image", disable=None):
        image = images.read(path)
        (mask,) = inference.segment(model, [image], info["image_size"], threshold, flips)
        drawn = cv2.cvtColor(overlay(image, mask), cv2.COLOR_RGB2BGR)
        for kind, picture in (("mask", 255 * mask), ("overlay", drawn)):
            atomic.write(arguments.output / f"{path.stem}_{kind}.png", cv2.imencode(".png", picture)[1].tobytes())
    how = f"lesion where the probability exceeds {threshold:g}{', averaged over flips' if flips else ''}"
    print(f"{len(arguments.images)} masks and overlays in {arguments.output}: {how}")


def run_models(arguments: argparse.Namespace) -> int:
    from hymunet import params
    from hymunet.registry import promote

    name = arguments.name or params.load(arguments.params, "register").register.model_name
    if arguments.action == "rollback":
        lost, gained = promote.rollback(name)
        print(f"{name}: version {gained} is champion again, version {lost} no longer")
    elif arguments.action == "promote":
        decision = promote.promote(name)
        if not decision.promoted:
            raise ValueError(f"not promoted: {decision.reason}")
        print(f"{name}: version {decision.version} is champion: {decision.reason}")
    else:
        print(f"{'version':<9}{'test Dice (95 % CI)':<28}{'registered':<19}aliases")
        for row in promote.versions(name):
            dice = (
                f"{float(row['dice']):.4f} ({float(row['low']):.4f} to {float(row['high']):.4f})"
                if row["dice"]
                else "-"
            )
            created = datetime.fromtimestamp(row["created"] / 1000, UTC).strftime("%Y-%m-%d %H:%M")
            print(f"{row['version']:<9}{dice:<28}{created:<19}{', '.join(row['aliases'])}")
    return 0


def run_export(arguments: argparse.Namespace) -> None:
    from hymunet.serving.export import export

    difference = export(arguments.model, arguments.output)
    print(f"{arguments.output}: ONNX Runtime agrees with the model to {difference:.1e}")


def run_deliver(arguments: argparse.Namespace) -> int:
    from hymunet.training.tracking.worker import deliver_all

    return deliver_all(arguments.journals, arguments.checkpoints)


def run_summary(arguments: argparse.Namespace) -> None:
    evaluation, registration = arguments.reports / "evaluation", arguments.reports / "registration/registration.json"
    test = _read(evaluation / "metrics.json")["test"]
    version = _read(registration)
    for name, label in (("dice", "Dice"), ("iou", "IoU"), ("precision", "precision"), ("hd95", "HD95, pixels")):
        mean, low, high = (test[name][key] for key in ("mean", "low", "high"))
        print(f"test {label:<14}{mean:8.4f}   (95 % CI {low:.4f} to {high:.4f})")
    print(f"over {test['images']} images, {test['missed']} missed altogether")
    print(f"report       {evaluation / 'report.html'}")
    print(f"model        {version['name']} version {version['version']} in {version['registry']}")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run the pipeline first: dvc repro") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
