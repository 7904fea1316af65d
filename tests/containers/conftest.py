from dataclasses import replace
from pathlib import Path
from secrets import token_hex

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
    known_here_alone = s3_server.env | {"AWS_SECRET_ACCESS_KEY": token_hex(20)}
    s3_server = replace(s3_server, env=known_here_alone)
    return Stack(project, tmp_path_factory.mktemp("stack"), images, s3_server, mlflow_server, bucket)
