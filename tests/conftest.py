"""Fixtures that any test may name."""

from tests.servers import mlflow_server, postgresql, s3_server

__all__ = ["mlflow_server", "postgresql", "s3_server"]
