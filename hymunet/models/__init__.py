"""Models by name, and their weights as safetensors beside a JSON description."""

from hymunet.models.catalogue import SIZES, build
from hymunet.models.model_folder import load, save

__all__ = ["SIZES", "build", "load", "save"]
