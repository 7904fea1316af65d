import pytest

from tests.support.training_data import Inputs, drawn, write_inputs


@pytest.fixture
def inputs(tmp_path) -> Inputs:
    """30 drawn images at 32×32: 20 to train on, 6 to validate, 4 to test."""
    return write_inputs(tmp_path / "inputs", *drawn(30, 32), validation=6, test=4)
