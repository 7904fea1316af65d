"""Files and folders that may not be written to, for a program of a superuser, too."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest


def command(words: Sequence[str], *places: Path) -> list[str]:
    """Nobody may write to the places from now on; the program of these words runs without a superuser's rights.

    Skips the test where the superuser's rights cannot be taken away.
    """
    for place in places:
        place.chmod(place.stat().st_mode & ~0o222)
    if os.geteuid() != 0:
        return list(words)
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed: it takes the superuser's rights away")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *words]
