"""The model that comes with the package: where it lies, and where it is meant by default."""

from pathlib import Path

NAME = "bundled"
FOLDER = Path(__file__).parent
CARD, WEIGHTS, DESCRIPTION = "CARD.md", "model.safetensors", "model.json"
GRAPH = "model.onnx"  # for where torch is not installed
AS_PACKED = "the bundled model, as it was packed"
TRAINED = "artifacts/model"  # what `dvc repro` makes


def is_there() -> bool:
    return (FOLDER / DESCRIPTION).is_file()


def folder() -> Path:
    """Raises ValueError where the installed package has none."""
    if not is_there():
        raise ValueError(f"this package comes without a model ({FOLDER} holds none); name one with --model")
    return FOLDER


def default() -> str:
    """The model that this folder has trained; where there is none, the bundled one."""
    return TRAINED if Path(TRAINED).exists() or not is_there() else NAME
