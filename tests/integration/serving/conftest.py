from collections.abc import Iterator
from pathlib import Path

import pytest

from hymunet.inference import Segmenter
from tests.support.serving import Running, running


@pytest.fixture(scope="session")
def model(finished_training: Path) -> Path:
    return finished_training / "artifacts/model"


@pytest.fixture(scope="session")
def segmenter(model: Path) -> Segmenter:
    return Segmenter.load(model)


@pytest.fixture(scope="session")
def server(model: Path) -> Iterator[Running]:
    with running(model) as started:
        yield started
