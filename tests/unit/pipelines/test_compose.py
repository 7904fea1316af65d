"""compose.yaml: what it promises, as far as it can be read without starting it."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ROOT / "infra/docker/compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict:
    return YAML(typ="safe", pure=True).load(COMPOSE)["services"]


def test_ports_are_open_to_this_machine_alone_and_are_those_of_the_settings(services: dict) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    always = [port for service in services.values() if "profiles" not in service for port in service.get("ports", [])]
    settings = (ROOT / "infra/kubeflow/settings.yaml").read_text()
    expected = re.findall(r"http://(127\.0\.0\.1:\d+)", settings)
    assert sorted(port.rsplit(":", 1)[0] for port in always) == sorted(expected)


def test_every_secret_comes_from_the_environment_and_must_be_set() -> None:
    text = COMPOSE.read_text()
    for name in ("POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert f"${{{name}:?" in text, f"nothing stops a start without {name}"
        assert not re.search(rf"{name}: (?!\$)", text), f"{name} is written down"


def test_what_is_waited_for_has_a_health_check(services: dict) -> None:
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for {other}"


def test_built_services_name_a_target_of_the_dockerfile(services: dict) -> None:
    targets = re.findall(r"^FROM .+ AS (\S+)$", (ROOT / "infra/docker/Dockerfile").read_text(), re.MULTILINE)
    built = [service["build"]["target"] for service in services.values() if "build" in service]
    assert built
    assert set(built) <= set(targets)


def test_serving_is_started_on_demand_alone_and_with_no_rights(services: dict) -> None:
    serving = services["serving"]
    assert serving["profiles"] == ["serving"]
    assert [name for name, service in services.items() if "profiles" in service] == ["serving"]
    assert (serving["read_only"], serving["cap_drop"]) == (True, ["ALL"])
    assert not [name for name in serving["environment"] if name.startswith("AWS_")], "weights come through MLflow"
    assert "serve" in serving["build"]["args"]["EXTRAS"].split(",")
    assert serving["environment"]["HYMUNET_API_KEY"] is None, (
        "passed on as it is: unset stays unset, empty is a mistake"
    )


def test_servings_command_is_one_that_serve_takes(services: dict) -> None:
    from hymunet.cli import parser

    command = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", services["serving"]["command"]).split()
    assert command[:3] == ["python", "-m", "hymunet.cli"]
    read = parser().parse_args(command[3:])
    assert (read.verb, read.model, read.port) == ("serve", "models:/hymunet@champion", 8000)
    assert services["serving"]["ports"] == [f"127.0.0.1:{read.port}:{read.port}"]


def test_mlflow_answers_to_the_name_that_containers_call_it_by(services: dict) -> None:
    """It refuses names that it does not know, against DNS rebinding."""
    allowed_by = pytest.importorskip("mlflow.server.security_utils").is_allowed_host_header
    allowed = services["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    called = re.fullmatch(r"http://(.+)", services["serving"]["environment"]["MLFLOW_TRACKING_URI"])
    assert called
    for host in (called[1], "127.0.0.1:5000", "localhost:5000", "172.18.0.1:5000"):
        assert allowed_by(allowed, host), host
    assert not allowed_by(allowed, "elsewhere.example:5000")


SECRETS = ["plain", "p@ss/word:1", 'quo"te', "back\\slash", "100%", "a b'c", "ü#?&=;", "$HOME"]


@pytest.mark.parametrize("secret", SECRETS)
def test_the_stores_keys_may_hold_any_character(services: dict, secret: str, tmp_path: Path) -> None:
    """The script that writes the store's keys, run as the container runs it, up to the server's start."""
    [script] = services["s3"]["command"]
    script = script.replace("$$", "$").replace("/tmp/s3.json", str(tmp_path / "s3.json"))
    script = script.replace("exec weed", "true weed")
    environment = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": f"id-{secret}", "AWS_SECRET_ACCESS_KEY": secret}
    subprocess.run([*services["s3"]["entrypoint"], script], env=environment, check=True)
    [identity] = json.loads((tmp_path / "s3.json").read_text())["identities"]
    assert identity["credentials"] == [{"accessKey": f"id-{secret}", "secretKey": secret}]


@pytest.mark.parametrize("secret", SECRETS)
def test_the_databases_password_may_hold_any_character(
    services: dict, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in no address; libpq takes it from the environment as it is."""
    sqlalchemy, psycopg = pytest.importorskip("sqlalchemy"), pytest.importorskip("psycopg")
    environment = services["mlflow"]["environment"]
    assert environment["PGPASSWORD"] == "${POSTGRES_PASSWORD}"
    monkeypatch.setenv("PGPASSWORD", secret)
    url = sqlalchemy.make_url(environment["MLFLOW_BACKEND_STORE_URI"])
    assert (url.username, url.password, url.host) == ("mlflow", None, "postgres")
    defaults = {option.keyword: option.val for option in psycopg.pq.Conninfo.get_defaults()}
    assert defaults[b"password"] == secret.encode()


def test_the_demo_says_how_to_stop_it_from_another_shell(tmp_path: Path) -> None:
    """Compose asks for the secrets to stop, too, and the script's environment ends with it."""
    script = tmp_path / "infra/docker/demo.sh"
    script.parent.mkdir(parents=True)
    script.write_text((COMPOSE.parent / "demo.sh").read_text())
    for name in ("docker", "python", "git"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=True)
    stop = re.search(r"docker compose --env-file (\S+) -f (\S+) down", done.stdout)
    assert stop
    assert (ROOT / stop[2]).is_file()
    drawn = dict(line.split("=") for line in (tmp_path / stop[1]).read_text().splitlines())
    assert set(drawn) == set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))
