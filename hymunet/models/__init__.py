"""Models by name, and their weights as safetensors beside a JSON description."""

from hymunet.models.registry import SIZES, build
from hymunet.models.storage import load, save

__all__ = ["SIZES", "build", "load", "save"]
