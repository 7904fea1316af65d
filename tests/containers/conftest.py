from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

import pytest

from tests.containers import composed
from tests.containers.stack import Stack, build, snapshot
from tests.support.servers import MLflowServer, S3Server


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return snapshot(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def images(project: Path) -> dict[str, str]:
    return {target: build(target, project) for target in ("cpu", "data")}


@pytest.fixture(scope="module")
def engine() -> str:
    return composed.engine()


@pytest.fixture(scope="module")
def pulled(engine: str, project: Path) -> Iterator[None]:
    with composed.pulled(engine, project):
        yield


@pytest.fixture(scope="session")
def new_stack(
    project: Path,
    images: dict[str, str],
    s3_server: S3Server,
    mlflow_server: MLflowServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Stack]:
    """Makes a stack with a bucket, a model name and a secret of its own; `endpoint`: another way to the store;
    `environment`: of its containers.
    """

    def make(name: str, endpoint: str | None = None, **environment: str) -> Stack:
        bucket = s3_server.create_bucket(f"hymunet-{name}")
        known_here_alone = s3_server.env | {"AWS_SECRET_ACCESS_KEY": token_hex(20)}
        s3 = replace(s3_server, endpoint=endpoint or s3_server.endpoint, env=known_here_alone)
        return Stack(name, project, tmp_path_factory.mktemp(name), images, s3, mlflow_server, bucket, environment)

    return make
