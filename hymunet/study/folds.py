"""A grouped cross-validation from a split: every image is tested once, near-duplicates are never torn apart."""

import csv
import hashlib
import io
from collections import Counter

ROLES = {0: "test", 1: "validation"}  # of the folds, counted from the one that tests; the others train


def fold_splits(split_csv: str, folds: int, seed: int) -> list[str]:
    """The text of split.csv -> one such text for each fold: it tests, the next one validates, the others train.

    Folds differ in size by the largest group at most. Order comes from SHA-256 of seed and group, so that it depends on
    no library. Raises ValueError for fewer groups than folds.
    """
    rows = list(csv.DictReader(io.StringIO(split_csv)))
    sizes = Counter(row["group"] for row in rows)
    if len(sizes) < folds:
        raise ValueError(f"{len(sizes)} groups of near-duplicates do not make {folds} folds; use fewer")
    rank = {group: hashlib.sha256(f"{seed}:{group}".encode()).hexdigest() for group in sizes}
    filled, fold_of = [0] * folds, {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], rank[name])):
        fold_of[group] = min(range(folds), key=lambda fold: (filled[fold], fold))
        filled[fold_of[group]] += sizes[group]
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
