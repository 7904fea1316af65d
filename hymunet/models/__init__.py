"""Models by name, and their weights as safetensors beside a JSON description. Importing this imports no torch."""

from hymunet.models.catalogue import build, section, start
from hymunet.models.model_folder import load, save

__all__ = ["build", "load", "save", "section", "start"]
