"""An MLflow server with accounts: who may do what, what whoever may not is told, and whose name a decision bears."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from hymunet import cli
from hymunet.registry.client import CHALLENGER, registry
from tests.support.scored_versions import TAGS, images_tested, write_version
from tests.support.servers import HOST, QUIET, Server, answers, free_port, mlflow_command

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
pytest.importorskip("flask_wtf", reason="MLflow's accounts need Flask-WTF; pip install flask-wtf")
ADMIN = ("admin", "what-only-they-know")
ASKING = ("--set", "promote.approval=true", "--set", "promote.contract=false", "--set", "promote.reproducible=false")


def password(person: str) -> str:
    return f"{person}-and-twelve-more"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("accounts"), free_port()
    uri = f"http://{HOST}:{port}"
    settings = folder / "auth.ini"
    settings.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/accounts.db\n"
        f"admin_username = {ADMIN[0]}\nadmin_password = {ADMIN[1]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    command = [*mlflow_command(f"sqlite:///{folder}/mlflow.db", folder / "artifacts", port), "--app-name", "basic-auth"]
    own = {**QUIET, "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test", "MLFLOW_AUTH_CONFIG_PATH": str(settings)}
    server = Server(command, lambda: answers(f"{uri}/health"), folder / "mlflow.log", own)
    server.start()
    for person in ("ada", "ben", "cleo"):
        account = {"username": person, "password": password(person)}
        requests.post(f"{uri}/api/2.0/mlflow/users/create", json=account, auth=ADMIN, timeout=30).raise_for_status()
    yield uri
    server.stop()


@pytest.fixture
def acting(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Who acts from now on: by the environment, or by MLflow's file of credentials."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("HOME", str(tmp_path))

    def act(person: str, by_file: bool = False) -> None:
        names = {"MLFLOW_TRACKING_USERNAME": person, "MLFLOW_TRACKING_PASSWORD": password(person)}
        file = tmp_path / ".mlflow/credentials"
        file.parent.mkdir(exist_ok=True)
        file.write_text("[mlflow]\n" + "".join(f"{key.lower()} = {value}\n" for key, value in names.items()))
        for key, value in names.items():
            if by_file:
                monkeypatch.delenv(key, raising=False)
            else:
                monkeypatch.setenv(key, value)

    return act


def grant(uri: str, by: str, person: str, model: str) -> None:
    """As docs/registry.md says it."""
    asked = {"username": person, "resource_type": "registered_model", "resource_id": model, "permission": "EDIT"}
    told = requests.post(
        f"{uri}/api/3.0/mlflow/users/permissions/grant", json=asked, auth=(by, password(by)), timeout=30
    )
    told.raise_for_status()


@pytest.fixture
def models(acting: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., tuple[int, str]]:
    """`hymunet models ACTION --name NAME …` of a model of which ada made a version."""
    text = (Path(__file__).resolve().parents[3] / "profiles/paper.yaml").read_text()
    for key in ("max_slower", "max_larger"):  # this version holds no weights that run
        text = "\n".join(f"  {key}: null" if line.strip().startswith(key) else line for line in text.split("\n"))
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    name = f"of-ada-{os.urandom(4).hex()}"
    acting("ada")
    write_version(tmp_path / "version", np.random.default_rng(0).uniform(0.7, 0.9, 30))
    with registry() as client:
        client.create_registered_model(name)
        run = client.create_run(client.create_experiment(name)).info
        client.log_artifacts(run.run_id, str(tmp_path / "version"), "model")
        tags = {**TAGS, "hymunet.test_images_sha256": images_tested(tmp_path / "version"), "test.dice": "0.8"}
        version = client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id, tags=tags).version
        client.set_registered_model_alias(name, CHALLENGER, version)

    def command(action: str, *arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = cli.main(["models", action, "--name", name, *arguments])
        captured = capsys.readouterr()
        return code or 0, captured.out + captured.err

    command.name = name  # type: ignore[attr-defined]
    return command


def test_a_second_account_approves_and_whoever_lacks_a_permission_is_told_which_account_it_is(
    uri: str, acting: Any, models: Any
) -> None:
    acting("ada", by_file=True)
    assert models("promote", *ASKING)[0] == 0
    code, said = models("approve", "--reason", "mine", *ASKING)
    assert code == 1
    assert "ada requested the promotion of version 1" in said

    acting("ben")
    code, said = models("approve", "--reason", "looked", *ASKING)
    assert code == 1
    assert f'MLflow at {uri}: answered with 403 "Permission denied"; "ben" lacks a permission there' in said
    assert '"kind": "promote"' not in models("history", "--json")[1]

    for model in (models.name, f"{models.name}.ledger"):
        grant(uri, "ada", "ben", model)
    code, said = models("approve", "--reason", "looked", *ASKING)
    assert code == 0, said
    assert "requested by ada (entry 1), approved: looked" in models("history", "--json")[1]
    assert "version 1 is champion" in models("verify")[1]


@pytest.mark.slow
def test_whoever_may_write_the_ledger_alone_leaves_an_alias_that_its_manager_sets(
    uri: str, acting: Any, models: Any
) -> None:
    assert models("promote", *ASKING)[0] == 0
    grant(uri, "ada", "ben", f"{models.name}.ledger")
    acting("ben")
    code, said = models("approve", "--reason", "looked", *ASKING)
    assert code == 1
    assert "is champion by entry 2 of the ledger, but the alias champion was not set" in said
    assert '"ben" lacks a permission there' in said
    acting("ada")
    assert models("verify")[0] == 0
    listed = models("list")[1]
    assert "champion" in listed
    assert "| -  " in listed, "no Dice: this version bears one of its three tags"


@pytest.mark.parametrize(
    ("person", "told"),
    [
        ("dora", '"dora" the name of an account there, and is its password right?'),
        (None, "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"),
    ],
)
def test_who_is_not_known_there_is_told_so(
    person: str | None, told: str, acting: Any, models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acting(person or "ada", by_file=True)
    if person is None:
        (tmp_path / ".mlflow/credentials").unlink()
    code, said = models("list")
    assert code == 1
    assert "answered with 401" in said
    assert told in said
