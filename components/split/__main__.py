"""Splits the prepared images into training, validation and test, near-duplicates on one side.

A publisher's own split, where it was downloaded, is kept as it is; what it tears apart is said.
"""

import json
import sys

from components.cli import arguments, guarded

PATHS = {"prepared": "data/prepared", "output": "data/split"}


def main(argv: list[str] | None = None) -> None:
    args = arguments("split", __doc__, PATHS, argv)

    from hymunet import atomic, params
    from hymunet.data.divide.contact_sheet import contact_sheet
    from hymunet.data.divide.near_duplicates import group_ids
    from hymunet.data.divide.split import assign, summary, to_csv
    from hymunet.data.prepare.manifest import open_array, read_manifest

    section = params.load(args.params, "split").split
    rows = read_manifest(args.prepared / "manifest.parquet")
    images, lesions = (open_array(args.prepared / f"{name}.npy") for name in ("images", "lesions"))
    ids = [row["id"] for row in rows]
    groups = group_ids(ids, lesions, [row["perceptual_hash"] for row in rows])
    assigned, protocol = {row["id"]: row["official_split"] for row in rows}, "official"
    if not all(assigned.values()):
        assigned, protocol = assign(groups, section.fractions, section.seed, section.protocol), section.protocol
    record = summary(groups, assigned, protocol, section.seed)
    args.output.mkdir(parents=True, exist_ok=True)
    contact_sheet(groups, ids, images, args.output / "near_duplicates.png")
    shared = {group for id, group in groups.items() if id != group}
    listed = "".join(f"{groups[id]},{id}\n" for id in ids if groups[id] in shared)
    for name, text in (
        ("near_duplicates.csv", f"group,id\n{listed}"),
        ("split.csv", to_csv(groups, assigned)),
        ("split.json", json.dumps(record, indent=2) + "\n"),
    ):
        atomic.write(args.output / name, text)
    several, torn = record["groups_of_several"], record["torn_groups"]
    print(f"split ({protocol}): {record['sizes']}, {several} groups of near-duplicates, {torn} torn")


if __name__ == "__main__":
    sys.exit(guarded("split", main))
