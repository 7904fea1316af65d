"""Real servers for tests, as session-scoped fixtures: PostgreSQL, an MLflow server on it, and S3 (moto).

tests/conftest.py makes them known to every test: name `postgresql`, `mlflow_server` or `s3_server` as an argument. Each
picks a free port, runs in a process group of its own and is killed by that group.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HOST = "127.0.0.1"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "DO_NOT_TRACK": "true"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    """True when something speaks HTTP there, whatever it says."""
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@dataclass
class Server:
    """One process group; `start` waits until `ready()`, `stop` leaves nothing behind. May be started again."""

    command: list[str]
    ready: Callable[[], bool]
    log: Path
    env: dict[str, str] = field(default_factory=dict)
    timeout: float = 300  # seconds; a loaded machine needs more than a minute
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **self.env}
            )
        deadline = time.monotonic() + self.timeout
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.command[0]} did not come up:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.1)

    def send(self, number: int) -> None:
        """A signal to the whole group: SIGSTOP makes a server hang, SIGKILL is an outage."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.send(number)
            self.process.wait(30)
            self.send(signal.SIGKILL)
            self.process = None


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


def postgresql_programs() -> Path | None:
    """The folder with initdb and postgres, or None."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@dataclass
class PostgreSQL:
    server: Server
    port: int
    programs: Path

    def create_database(self, name: str) -> str:
        """An empty database; returns its URI for SQLAlchemy."""
        command = [str(self.programs / "psql"), "-h", HOST, "-p", str(self.port), "-U", "hymunet", "-d", "postgres"]
        subprocess.run([*command, "-qc", f'CREATE DATABASE "{name}"'], check=True)
        return self.uri(name)

    def uri(self, name: str) -> str:
        return f"postgresql://hymunet@{HOST}:{self.port}/{name}"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("no PostgreSQL on this machine; Debian: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="no PostgreSQL driver; pip install psycopg[binary]")
    folder = Path(tempfile.mkdtemp(prefix="hymunet-postgresql-"))
    # PostgreSQL refuses to run as root: Debian's package brings the user.
    as_user: list[str] = []
    if os.geteuid() == 0:
        if "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
            pytest.skip("running as root without a user postgres, as which PostgreSQL could run")
        shutil.chown(folder, "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    port = free_port()
    data = folder / "data"
    try:
        subprocess.run(
            [*as_user, str(programs / "initdb"), "-D", str(data), "-U", "hymunet", "-A", "trust", "-E", "UTF8", "-N"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        command = [*as_user, str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder)]
        command += ["-c", f"listen_addresses={HOST}", "-c", "fsync=off", "-c", "shared_buffers=32MB"]

        def ready() -> bool:
            probe = [str(programs / "pg_isready"), "-q", "-h", HOST, "-p", str(port), "-U", "hymunet", "-d", "postgres"]
            return subprocess.run(probe).returncode == 0

        log = Path(tempfile.mkstemp(prefix="hymunet-postgresql-", suffix=".log")[1])
        server = Server(command, ready, log)
        server.start()
        try:
            yield PostgreSQL(server, port, programs)
        finally:
            server.stop(signal.SIGINT)  # fast shutdown, so that shared memory is released
            log.unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- MLflow ---------------------------------------------------------------------------------------------------------


@dataclass
class MLflowServer:
    server: Server
    uri: str
    database: str


def mlflow_command(database: str, artifacts: Path, port: int) -> list[str]:
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    return [*command, "--backend-store-uri", database, "--artifacts-destination", artifacts.as_uri()]


def start_mlflow(database: str, folder: Path, port: int | None = None) -> MLflowServer:
    """An MLflow server over `database` (sqlite:/// or postgresql://), its artifacts and log in `folder`."""
    port = port or free_port()
    uri = f"http://{HOST}:{port}"
    command = mlflow_command(database, folder / "artifacts", port)
    server = Server(command, lambda: answers(f"{uri}/health"), folder / "mlflow.log", QUIET)
    server.start()
    return MLflowServer(server, uri, database)


@pytest.fixture(scope="session")
def mlflow_server(postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    """An MLflow server on PostgreSQL, shared by the session: use an experiment or model name of your own."""
    name = f"mlflow_{os.getpid()}"
    running = start_mlflow(postgresql.create_database(name), tmp_path_factory.mktemp("mlflow"))
    try:
        yield running
    finally:
        running.server.stop()


# --- S3 -------------------------------------------------------------------------------------------------------------


@dataclass
class S3Server:
    endpoint: str
    env: dict[str, str]

    def client(self):  # type: ignore[no-untyped-def]
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
        )

    def create_bucket(self, name: str) -> str:
        self.client().create_bucket(Bucket=name)
        return name


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A moto S3 server; pass `env` to programs that should use it."""
    port = free_port()
    endpoint = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    server = Server(command, lambda: answers(endpoint), tmp_path_factory.mktemp("s3") / "moto.log")
    server.start()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    try:
        yield S3Server(endpoint, {**keys, "AWS_ENDPOINT_URL": endpoint})
    finally:
        server.stop()
