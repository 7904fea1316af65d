"""Registries that do not answer: one line each, in bounded time, with word of what is waited for."""

import contextlib
import http.server
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from hymunet.mlflow_store import answer
from hymunet.registry import client
from tests.support.servers import HOST, free_port

pytestmark = pytest.mark.integration
PATIENCE, TIMEOUT = 3.0, 2  # libpq waits two seconds at least
USER = "u:secret@"


@contextlib.contextmanager
def serving(codes):
    """An HTTP server that answers with these codes, the last of them again and again; gives its address."""
    left = list(codes)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.end_headers()
            self.wfile.write(b"nothing of MLflow")

        do_POST = do_GET

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer((HOST, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def silent(kind):
    """A port that takes connections and says nothing."""
    with socket.socket() as taking:
        taking.bind((HOST, 0))
        taking.listen()
        yield f"{kind}://{USER * (kind != 'http')}{HOST}:{taking.getsockname()[1]}"


@contextlib.contextmanager
def guarded(postgresql):
    """A database whose user `locked` needs a password, and its address with another one."""
    database = postgresql.create_database("guarded")
    rules = Path(postgresql.server.command[postgresql.server.command.index("-D") + 1], "pg_hba.conf")
    before = rules.read_text()
    rules.write_text(f"host all locked {HOST}/32 scram-sha-256\n{before}")
    psql = [str(postgresql.programs / "psql"), "-qd", database, "-c"]
    subprocess.run([*psql, "CREATE ROLE locked LOGIN PASSWORD 'right'; SELECT pg_reload_conf()"], check=True)
    yield database.replace("hymunet@", "locked:secret@")
    rules.write_text(before)
    subprocess.run([*psql, "SELECT pg_reload_conf()"], check=True)


def nobody(address):
    return lambda postgresql: contextlib.nullcontext(address.format(port=free_port(), user=USER))


CASES = {  # how the address comes to be, whether it is waited for, what the line says
    "PostgreSQL, refused": (nobody("postgresql://{user}127.0.0.1:{port}/x"), True, "Connection refused"),
    "PostgreSQL, unknown host": (nobody("postgresql://{user}no.invalid/x"), False, "failed to resolve host"),
    "PostgreSQL, silent": (lambda postgresql: silent("postgresql"), True, "timeout expired"),
    "PostgreSQL, no such database": (
        lambda postgresql: contextlib.nullcontext(postgresql.uri("none").replace("hymunet@", "hymunet:secret@")),
        False,
        'database "none" does not exist',
    ),
    "PostgreSQL, wrong password": (guarded, False, 'password authentication failed for user "locked"'),
    "server, refused": (nobody("http://{user}127.0.0.1:{port}"), True, "no answer; is the address right"),
    "server, unknown host": (nobody("http://no.invalid"), False, "no answer; is the address right"),
    "server, silent": (lambda postgresql: silent("http"), True, "no answer; is the address right"),
    "server, not up behind its proxy": (lambda postgresql: serving([503]), True, "answers with 503"),
    "no MLflow": (lambda postgresql: serving([404]), False, "404"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_store_that_does_not_answer_is_one_line_in_bounded_time(case, postgresql, monkeypatch, capsys):
    import mlflow  # noqa: F401

    made, waited_for, words = CASES[case]
    monkeypatch.setattr(answer, "PATIENCE", PATIENCE)
    monkeypatch.setattr(answer, "TIMEOUT", TIMEOUT)
    with made(postgresql) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        begin = time.monotonic()
        with pytest.raises(ValueError, match=r"^MLflow at") as refusal, client.registry() as opened:
            opened.search_registered_models()
        lasted = time.monotonic() - begin
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "secret" not in str(refusal.value)
    assert lasted < PATIENCE + 2 * TIMEOUT + 3
    assert lasted >= PATIENCE or not waited_for
    told = capsys.readouterr().err.splitlines()
    assert len(told) == waited_for, "once, and only of what is waited for"
    assert all(words in line and "secret" not in line and line.endswith("trying for 3 s") for line in told)


def test_one_that_is_starting_is_waited_for(capsys):
    with serving([503, 503, 200]) as uri:
        answer.await_answer(uri)
        assert capsys.readouterr().err == (
            f"MLflow at {uri}: the server answers with 503 Service Unavailable; trying for 8 s\n"
        )
