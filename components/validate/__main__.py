"""Checks manifest and split against the expectations and writes a report; a failed expectation stops the pipeline."""

import sys

from components.cli import arguments, guarded

PATHS = {"prepared": "data/prepared", "split": "data/split", "output": "reports/validation"}


def main(argv: list[str] | None = None) -> int:
    args = arguments("validate", __doc__, PATHS, argv)

    from hymunet import params
    from hymunet.data.check.expectations import validate

    section = params.load(args.params, "validate", changes=args.set).validate
    args.output.mkdir(parents=True, exist_ok=True)
    failures = validate(section, args.prepared, args.split, args.output)
    for failure in failures:
        print(f"validate: {failure}", file=sys.stderr)
    print(f"validate: {'FAILED' if failures else 'passed'}; report: {args.output / 'report.html'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(guarded("validate", main))
