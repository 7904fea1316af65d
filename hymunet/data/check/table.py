"""What the steps before wrote, read and joined for the checks; a file that is missing or damaged is named."""

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

CHECKED = ("id", "sha256_image", "sha256_mask", "width", "height", "mask_area", "components", "holes", "touches_border")


def table(prepared: Path, split: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A frame with a row an image, the content of split.json and that of prepare.json.

    The rows are the manifest's joined with the split's, and what follows from both; an id on one side only has nulls on
    the other. Images without a lesion have no area and no pieces; where there are any, `without_lesion` marks them and
    `lesion_in_SPLIT` the others. Raises ValueError for a file that is missing, damaged or of another version.
    """
    import pandas as pd

    preparation = _checked(prepared / "prepare.json", "prepare", _json, ())
    record = _checked(split / "split.json", "split", _json, ("sizes", "protocol"))
    # Names are text, whatever they look like: 007 is not 7, and NA is not nothing.
    assigned = _checked(split / "split.csv", "split", _names, ("id", "group", "split"))
    manifest = _checked(prepared / "manifest.parquet", "prepare", pd.read_parquet, CHECKED)
    frame = manifest.merge(assigned, on="id", how="outer")
    frame["aspect_ratio"] = frame[["width", "height"]].max(axis=1) / frame[["width", "height"]].min(axis=1)
    for name in record["sizes"]:
        frame[f"in_{name}"] = (frame["split"] == name).astype(int)
    frame["splits_of_group"] = frame.groupby("group")["split"].transform("nunique")
    without = frame["mask_area"] == 0
    if without.any():
        frame["without_lesion"] = without
        for name in record["sizes"]:
            frame[f"lesion_in_{name}"] = ((frame["split"] == name) & ~without).astype(int)
        lesion = ["mask_area", "components"]
        frame[lesion] = frame[lesion].mask(without)
    return frame, record, preparation


def _checked(path: Path, step: str, read: Callable[[Path], Any], keys: Collection[str]) -> Any:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run the prepare and split steps first")
    try:
        content = read(path)
    except (ValueError, OSError) as error:  # also pandas', pyarrow's and json's own
        raise ValueError(
            f"{path}: cannot be read ({' '.join(str(error).split())}); run the {step} step again"
        ) from None
    if missing := [key for key in keys if key not in content]:
        raise ValueError(f"{path}: has no {', '.join(missing)}; run the {step} step again")
    return content


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"found {content!r:.40}")
    return content


def _names(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path, dtype=str, keep_default_na=False)
