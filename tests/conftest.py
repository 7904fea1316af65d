"""Fixtures that any test may name."""

import os

from hypothesis import settings

from tests.support.servers import mlflow_server, postgresql, s3_server
from tests.support.small_project import finished_training

__all__ = ["finished_training", "mlflow_server", "postgresql", "s3_server"]

settings.register_profile("ci", derandomize=True)  # new cases are for people to meet, not for a merge to stumble over
if os.environ.get("CI"):
    settings.load_profile("ci")
