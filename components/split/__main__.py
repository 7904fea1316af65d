"""Splits the prepared images into training, validation and test, near-duplicates on one side."""

import sys

from components.cli import arguments, guarded

PATHS = {"prepared": "data/prepared", "output": "data/split"}


def main(argv: list[str] | None = None) -> None:
    args = arguments("split", __doc__, PATHS, argv)

    from hymunet import params
    from hymunet.data.divide.divide import divide

    record = divide(params.load(args.params, "split", changes=args.set).split, args.prepared, args.output)
    several, torn, wanted = record["groups_of_several"], record["torn_groups"], record.get("wanted")
    kind = "images that belong together" if "groups_listed" in record else "near-duplicates"
    print(f"split ({record['protocol']}): {record['sizes']}, {several} groups of {kind}, {torn} torn")
    if listed := record.get("groups_listed"):
        print(f"split: groups.csv names {listed} groups, of which {record['listed_groups_torn']} are torn")
    if without := record.get("without_lesion"):
        print(f"split: images without a lesion: {without}")
    if wanted and wanted != record["sizes"]:
        print(f"split: the fractions ask for {wanted}; this is as near as whole groups come")


if __name__ == "__main__":
    sys.exit(guarded("split", main))
