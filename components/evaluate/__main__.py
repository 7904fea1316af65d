"""Scores the model on the test images and writes metrics, a row per image, pictures and a page."""

import sys

from components.cli import arguments, guarded

PATHS = {
    "model": "artifacts/model",
    "prepared": "data/prepared",
    "split": "data/split/split.csv",
    "training": "reports/training",
    "output": "reports/evaluation",
}


def main(argv: list[str] | None = None) -> None:
    args = arguments("evaluate", __doc__, PATHS, argv)

    from hymunet import params

    section = params.load(args.params, "evaluate", changes=args.set).evaluate

    from hymunet.evaluation.evaluate import evaluate
    from hymunet.evaluation.record import one_group

    found = evaluate(args.model, args.prepared, args.split, args.training, args.output, section)
    test, dice = found["test"], found["test"]["dice"]
    interval = f"{dice['mean']:.4f} ({dice['low']:.4f} to {dice['high']:.4f})"
    print(f"evaluate: test Dice {interval} over {test['images']} images; report: {args.output / 'report.html'}")
    if alone := one_group(found):
        print(f"evaluate: {alone}")


if __name__ == "__main__":
    sys.exit(guarded("evaluate", main))
