"""Fixtures of several of these files."""

from pathlib import Path

import pytest

from tests.support import small_study


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """U-Net with two seeds, Attention U-Net with one of two, the third not computed."""
    folder = small_study.write_study(tmp_path / "mini", models=small_study.NETS)
    for model, seed in (("unet", 0), ("unet", 1), ("attention", 0)):
        small_study.publish(folder, model, seed, small_study.drawn_rows(model, seed))
    return folder
