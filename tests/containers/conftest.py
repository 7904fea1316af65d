from pathlib import Path

import pytest

from tests.containers.stack import Stack, build, snapshot
from tests.servers import MLflowServer, S3Server


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return snapshot(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def images(project: Path) -> dict[str, str]:
    return {target: build(target, project) for target in ("cpu", "data")}


@pytest.fixture(scope="session")
def stack(
    project: Path,
    images: dict[str, str],
    s3_server: S3Server,
    mlflow_server: MLflowServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Stack:
    bucket = s3_server.create_bucket("hymunet-containers")
    return Stack(project, tmp_path_factory.mktemp("stack"), images, s3_server, mlflow_server, bucket)
