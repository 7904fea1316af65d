"""Fixtures that any test may name."""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.servers import mlflow_server, postgresql, s3_server
from tests.support.small_project import finished_training, unet_project

__all__ = ["finished_training", "mlflow_server", "postgresql", "s3_server", "unet_project"]

settings.register_profile("ci", derandomize=True)  # new cases are for people to meet, not for a merge to stumble over
if os.environ.get("CI"):
    settings.load_profile("ci")

for variable in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES"):  # of `make test`, for its own makes alone
    os.environ.pop(variable, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A long proof may take long, also on a machine that does other things.

    Trainings, which take longest, begin first, so that no worker has one left when the others have nothing.
    """
    items.sort(key=lambda item: item.path.parent.name != "training")
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(autouse=True)
def _environment_as_before() -> Iterator[None]:
    """What a program called in this process sets for its libraries does not reach the next test."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module", autouse=True)
def _modules_from_where_they_were() -> Iterator[None]:
    """A model that MLflow loads puts its copy of the package first on the path, where later processes find it."""
    before = list(sys.path)
    yield
    sys.path[:] = before
