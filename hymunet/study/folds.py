"""A grouped cross-validation from a split: every image is tested once, what belongs together is never torn apart."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Set as AbstractSet

ROLES = {0: "test", 1: "validation"}  # of the folds, counted from the one that tests; the others train


def fold_splits(split_csv: str, folds: int, seed: int, empty: AbstractSet[str]) -> list[str]:
    """The text of split.csv -> one such text for each fold: it tests, the next one validates, the others train.

    empty: ids of images without a lesion, of which each fold gets its share as far as groups allow. Folds differ in
    size by the largest group at most. Order comes from SHA-256 of seed and group, so that it depends on
    no library. Raises ValueError for fewer groups than folds.
    """
    rows = list(csv.DictReader(io.StringIO(split_csv)))
    sizes = Counter(row["group"] for row in rows)
    if len(sizes) < folds:
        raise ValueError(f"{len(sizes)} groups of images that belong together do not make {folds} folds; use fewer")
    without = Counter(row["group"] for row in rows if row["id"] in empty)
    rank = {group: hashlib.sha256(f"{seed}:{group}".encode()).hexdigest() for group in sizes}
    filled, empties, fold_of, largest = [0] * folds, [0] * folds, {}, max(sizes.values())
    for group in sorted(sizes, key=lambda name: (-sizes[name], -without[name], rank[name])):
        most = min(filled) + largest - sizes[group]
        fold_of[group] = min(
            (fold for fold in range(folds) if filled[fold] <= most),
            key=lambda fold: (empties[fold] if without[group] else 0, filled[fold], fold),
        )
        filled[fold_of[group]] += sizes[group]
        empties[fold_of[group]] += without[group]
    texts = []
    for fold in range(folds):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("id", "group", "split"))
        for row in rows:
            role = ROLES.get((fold_of[row["group"]] - fold) % folds, "train")
            writer.writerow((row["id"], row["group"], role))
        texts.append(text.getvalue())
    return texts
