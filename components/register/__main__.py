"""Registers the tested model in MLflow as the challenger, once for the same content."""

import sys

from components.cli import arguments, guarded

PATHS = {
    "model": "artifacts/model",
    "evaluation": "reports/evaluation",
    "split": "data/split/split.json",
    "members": "data/split/split.csv",
    "prepared": "data/prepared",
    "verdict": "reports/validation/verdict.json",
    "output": "reports/registration",
}


def main(argv: list[str] | None = None) -> None:
    args = arguments("register", __doc__, PATHS, argv)

    from hymunet import params

    loaded = params.load(args.params, "register", "promote", changes=args.set)
    name = loaded.register.model_name

    from hymunet.registry import grounds
    from hymunet.registry.register import register
    from hymunet.registry.step import conclude

    rests_on = grounds.collect(args.members, args.prepared, args.verdict)
    done = register(name, args.model, args.evaluation, args.split, args.output, rests_on=rests_on)
    version, there = done.statement.version, done.statement.registry
    if done.challenger == version:
        print(f"register: {name} version {version} is the challenger in {there}")
    else:
        print(
            f"register: {name} version {version} is in {there} as before; the challenger is version {done.challenger}"
        )
    if said := conclude(name, str(version), loaded.promote, args.output):
        print(f"register: {said}")


if __name__ == "__main__":
    sys.exit(guarded("register", main))
