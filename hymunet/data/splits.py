"""The names of the splits: in files, in the order in which they are written and shown."""

from typing import Literal

NAMES = ("train", "validation", "test")
OPEN_TO_TRAINING = ("train", "validation")
Scored = Literal["test", "validation"]  # what a trained model may be scored on; the first is meant where none is named
