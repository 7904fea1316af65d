"""Fixtures that any test may name."""

from tests.servers import mlflow_server, postgresql, s3_server
from tests.small_project import finished_training

__all__ = ["finished_training", "mlflow_server", "postgresql", "s3_server"]
