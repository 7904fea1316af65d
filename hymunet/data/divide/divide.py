"""The split step: groups of near-duplicates, the split that keeps them whole, and the lists and the picture of both.

What a listing says belongs together, as one patient's images, is kept whole with them. A publisher's own split, or a
listing's, is kept as it is; what it tears apart is said.
"""

import json
from pathlib import Path
from typing import Any

from hymunet import atomic, params
from hymunet.data.divide.contact_sheet import contact_sheet
from hymunet.data.divide.near_duplicates import group_ids
from hymunet.data.divide.split import NAMES, assign, near_duplicates_csv, summary, to_csv, torn_groups
from hymunet.data.grouping import united
from hymunet.data.prepare.groups import GROUPS, read_groups
from hymunet.data.prepare.manifest import open_array, read_manifest
from hymunet.places import named


def divide(section: params.Split, prepared: Path, output: Path) -> dict[str, Any]:
    """Writes `split.csv`, `split.json` and `near_duplicates.csv` and `.png`; returns the content of split.json.

    Raises ValueError when what prepare wrote is missing or damaged, and when no split of these sizes is possible.
    """
    rows = read_manifest(prepared / "manifest.parquet")
    images, lesions = (open_array(prepared / f"{name}.npy") for name in ("images", "lesions"))
    ids = [row["id"] for row in rows]
    output.mkdir(parents=True, exist_ok=True)
    with named(output.parent):
        alike = group_ids(ids, lesions, [row["perceptual_hash"] for row in rows], output.parent)
    told = read_groups(prepared / GROUPS, ids)
    groups = united(ids, alike, told) if told else alike
    empty = {row["id"] for row in rows if row["mask_area"] == 0}
    assigned, protocol = {row["id"]: row["official_split"] for row in rows}, "official"
    if not all(assigned.values()):
        assigned, protocol = assign(groups, section.fractions, section.seed, section.protocol, empty), section.protocol
    fractions = None if protocol == "official" else section.fractions
    record = summary(groups, assigned, protocol, section.seed, fractions)
    if told:
        record |= {"groups_listed": len(set(told.values())), "listed_groups_torn": torn_groups(told, assigned)}
    if empty:
        record["without_lesion"] = {name: sum(assigned[id] == name for id in empty) for name in NAMES}
    contact_sheet(alike, ids, images, output / "near_duplicates.png")
    for name, text in (
        ("near_duplicates.csv", near_duplicates_csv(alike, ids)),
        ("split.csv", to_csv(groups, assigned)),
        ("split.json", json.dumps(record, indent=2) + "\n"),
    ):
        atomic.write(output / name, text)
    return record
