"""A version's files come through MLflow's server: the store's own address is nobody's business but the server's."""

import os
import sys
from pathlib import Path

import pytest

from hymunet.mlflow_store.environment import THROUGH_THE_SERVER
from hymunet.registry.client import registry
from hymunet.registry.load import open_segmenter
from tests.support.servers import HOST, QUIET, S3Server, Server, answers, free_port
from tests.support.versions import add, untrained

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
ASKED_FOR_THE_STORE = "/mlflow-artifacts/presigned/"


@pytest.fixture(scope="module")
def server(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """MLflow over S3, as compose.yaml and infra/kubernetes start it."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    bucket = s3_server.create_bucket("through-the-server")
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", f"s3://{bucket}/mlflow"]
    uri = f"http://{HOST}:{port}"
    started = Server(command, lambda: answers(f"{uri}/health"), folder / "log", {**QUIET, **s3_server.env, "URI": uri})
    started.start()
    yield started
    started.stop()


@pytest.mark.parametrize("chosen", [None, "true"])
def test_weights_come_through_the_server_unless_the_user_wants_it_otherwise(
    chosen: str | None, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.env["URI"])
    for name in THROUGH_THE_SERVER:
        monkeypatch.delenv(name, raising=False)
        if chosen:
            monkeypatch.setenv(name, chosen)
    name, model = f"through-{chosen}", untrained(tmp_path / "model", 32, seed=1)
    before = server.log.stat().st_size
    with registry() as client:
        client.create_registered_model(name)
        number = add(client, name, model, 0.5, tmp_path / "evaluation")
    opened, _ = open_segmenter(f"models:/{name}/{number}")
    assert opened.info["weights_sha256"]
    told = server.log.read_text()[before:]
    assert "/api/2.0/mlflow-artifacts/artifacts/0/" in told
    assert (ASKED_FOR_THE_STORE in told) is bool(chosen)
    for name in THROUGH_THE_SERVER:
        assert os.environ[name] == (chosen or "false")
