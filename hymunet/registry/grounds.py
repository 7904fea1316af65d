"""What a version's scores rest on, kept beside it: where each image was, its files' hashes, the checks' verdict."""

import csv
import io
from pathlib import Path

from hymunet.data.prepare.manifest import read_manifest

FOLDER = "grounds"
SPLIT, FILES, VERDICT = "split.csv", "files.csv", "verdict.json"
HASHES = ("sha256_image", "sha256_mask")
LIKENESS = "perceptual_hash"


def collect(split: Path, prepared: Path, verdict: Path) -> dict[str, bytes]:
    """Name -> content of the folder's files. split: split.csv; prepared: the folder; verdict: verdict.json.

    ValueError when one is missing.
    """
    for path in (split, verdict):
        if not path.is_file():
            raise ValueError(f"{path}: no such file; run the steps before this one first")
    text = io.StringIO()
    writer = csv.DictWriter(text, ["id", *HASHES, LIKENESS], lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(read_manifest(prepared / "manifest.parquet"))
    return {SPLIT: split.read_bytes(), FILES: text.getvalue().encode("utf-8"), VERDICT: verdict.read_bytes()}
