"""Splits the prepared images into training, validation and test, near-duplicates on one side."""

import sys

from components.cli import arguments, guarded

PATHS = {"prepared": "data/prepared", "output": "data/split"}


def main(argv: list[str] | None = None) -> None:
    args = arguments("split", __doc__, PATHS, argv)

    from hymunet import params
    from hymunet.data.divide.divide import divide

    record = divide(params.load(args.params, "split", changes=args.set).split, args.prepared, args.output)
    several, torn = record["groups_of_several"], record["torn_groups"]
    print(f"split ({record['protocol']}): {record['sizes']}, {several} groups of near-duplicates, {torn} torn")


if __name__ == "__main__":
    sys.exit(guarded("split", main))
