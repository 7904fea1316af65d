from collections.abc import Iterator
from pathlib import Path

import pytest

from hymunet.inference import Segmenter
from tests.support.devtools import Browser, browser
from tests.support.serving import Running, running
from tests.support.serving_page import TEXT


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


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def page(chromium: Browser, server: Running) -> Browser:
    chromium.complaints.clear()
    chromium.size(1280, 860)
    chromium.open(f"{server.address}/")
    chromium.until(f"{TEXT.format('hint')}.includes('megapixels')")
    return chromium
