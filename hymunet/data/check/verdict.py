"""What the data checks concluded, and of which data: all of them that training depends on.

Apart from their report, which also states bounds and figures: data that pass under other bounds train no other model.
"""

import hashlib
import json
from pathlib import Path

from hymunet import atomic


def write_verdict(path: Path, passed: bool, prepared: Path, split: Path) -> None:
    """prepared: the folder, split: split.csv that were judged. ValueError where prepare.json is missing."""
    atomic.write(path, json.dumps({"passed": passed, **_judged(prepared, split)}, indent=2) + "\n")


def require_passed(path: Path, prepared: Path, split: Path) -> None:
    """Raises ValueError unless these very data have passed the checks."""
    try:
        verdict = json.loads(path.read_text(encoding="utf-8"))
        passed = verdict.pop("passed")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run the validate step first") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: not a verdict of the data checks; run the validate step again") from None
    if verdict != _judged(prepared, split):
        raise ValueError(f"{path}: judges other data than {prepared} and {split}; run the validate step again")
    if passed is not True:
        raise ValueError(f"{path}: the data checks failed; see the report beside it, then mend the data")


def _judged(prepared: Path, split: Path) -> dict[str, str]:
    """The hashes by which a model, too, names what it was trained on."""
    try:
        data = json.loads((prepared / "prepare.json").read_text(encoding="utf-8"))["sha256"]
        return {"data_sha256": data, "split_sha256": hashlib.sha256(split.read_bytes()).hexdigest()}
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename}: no such file; run the prepare and split steps first") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{prepared / 'prepare.json'}: not prepare's record; run the prepare step again") from None
