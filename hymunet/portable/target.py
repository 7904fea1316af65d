"""The file that an export is to write, and whether it may: told before torch is imported."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from hymunet import extras
from hymunet.formats.zips import DAMAGED
from hymunet.places import require_folder
from hymunet.prediction.onnx_file import ENDING, WEIGHTS_KEY

PROGRAM_ENDING = ".pt2"
FACTS = "hymunet.json"  # in a program's package: what the graph does not say


def require_packages() -> None:
    """Raises ValueError where one is missing."""
    extras.require("export", "onnx", "onnxruntime", "onnxscript")


def check_onnx(output: Path) -> None:
    """Raises ValueError, before any work, for a file that cannot be written or is not ours to replace."""
    require_packages()
    check_place(output, is_onnx_of_ours, ENDING)


def check_place(output: Path, ours: Callable[[Path], bool], ending: str = "") -> None:
    """ours: whether a file that is there was written by this command. ending: without which no program takes it for
    what it is. Raises ValueError as `check_onnx` does.
    """
    if output.is_dir():
        raise ValueError(f"{output}: is a folder; name the file to write, such as {output / 'model.onnx'}")
    if output.exists() and not ours(output):
        raise ValueError(f"{output}: exists, and was not written by this command; name another file")
    if not output.name.lower().endswith(ending):
        raise ValueError(f"{output}: --model takes ONNX files by their ending {ending}; name it {output}{ending}")
    require_folder(output.parent)
    output.parent.mkdir(parents=True, exist_ok=True)


def check_program(output: Path) -> None:
    """Raises ValueError, before any work, for a file that cannot be written or is not ours to replace."""
    if output.suffix != PROGRAM_ENDING:
        raise ValueError(
            f"{output}: torch.export's packages end in {PROGRAM_ENDING}; name it {output.with_suffix(PROGRAM_ENDING)}"
        )
    check_place(output, is_program_of_ours)


def is_onnx_of_ours(path: Path) -> bool:
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # whatever protobuf makes of a file of another kind
        return False
    return any(entry.key == WEIGHTS_KEY for entry in model.metadata_props)


def is_program_of_ours(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as package:
            name = next(name for name in package.namelist() if name.endswith(f"/{FACTS}"))
            facts = json.loads(package.read(name))
            return isinstance(facts, dict) and WEIGHTS_KEY in facts
    except (StopIteration, *DAMAGED):
        return False
