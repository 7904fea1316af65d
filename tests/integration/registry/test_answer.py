"""Registries that do not answer: one line each, in bounded time, with word of what is waited for."""

import contextlib
import http.server
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from hymunet.mlflow_store import answer, patience
from hymunet.registry import client
from tests.support.servers import HOST, free_port, start_mlflow

pytestmark = pytest.mark.integration
PATIENCE, TIMEOUT = 3.0, 2  # libpq waits two seconds at least
USER = "u:secret@"


@contextlib.contextmanager
def serving(codes, said=b"nothing of MLflow", healthy=False):
    """An HTTP server that answers with these codes, the last of them again and again; gives its address."""
    left = list(codes)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            well = healthy and self.path == "/health"
            self.send_response(200 if well else left.pop(0) if len(left) > 1 else left[0])
            self.end_headers()
            self.wfile.write(b"OK" if well else said)

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
    "server, unknown host": (nobody("http://no.invalid:5030"), False, "no answer; is the address right"),
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


CALLS = {
    "a search": lambda opened: opened.search_registered_models(),
    "an alias": lambda opened: opened.set_registered_model_alias("lesions", "champion", "1"),
    "a tag": lambda opened: opened.set_model_version_tag("lesions", "1", "a", "b"),
    "a version": lambda opened: opened.create_model_version("lesions", "/nowhere"),
}
SILENCE, FAILURE = None, 503  # what comes after the first answer


@pytest.mark.parametrize(("call", "status"), [*((call, SILENCE) for call in CALLS), ("an alias", FAILURE)])
def test_what_is_not_answered_is_asked_once_and_what_fails_again(call, status, monkeypatch, capsys):
    asked, ended = [], threading.Event()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setattr(patience, "SAID_AFTER", 0.25)

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            well = self.path == "/health"
            if not well:
                asked.append(self.path)
                if status is SILENCE:
                    ended.wait(60)
                    return
            self.send_response(200 if well else status)
            self.end_headers()
            self.wfile.write(b"OK" if well else b"")

        do_GET = do_POST = do_PATCH = answer

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer((HOST, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://{HOST}:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.replace("//", f"//{USER}"))
        with pytest.raises(client.Unavailable), client.registry() as opened:
            CALLS[call](opened)
        ended.set()
        server.shutdown()
    assert len(asked) == (1 if status is SILENCE else 3), asked
    if status is SILENCE:
        told = [line for line in capsys.readouterr().err.splitlines() if "after 5 s" not in line]  # a slow machine's
        assert told == [f"MLflow at {uri}: no answer after 0.25 s; it is given up after 1 s"]


PAGE = b"<!DOCTYPE html><html><style>p { color: red }</style>\n<script>if (1 < 2) {}</script><h1>It &amp; works</h1>"
WHICH = "; is this the address of an MLflow server?"
SIGN_IN = "; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
FAILS = "; the server is up and fails: its log says why; is its database up?"
ANSWERS = {  # the status, what is said, the line, whether another try may help
    "another page": (404, PAGE, f'answered with 404 "It & works"{WHICH}', False),
    "a page for everything": (200, PAGE, f'answered with 200 "It & works"{WHICH}', False),
    "a list": (200, b"[1]", f'answered with 200 "[1]"{WHICH}', False),
    "another program's JSON": (
        404,
        b'{"detail": "Not Found"}',
        f"answered with \"{{'detail': 'Not Found'}}\"{WHICH}",
        True,
    ),
    "nothing": (404, b"", f"answered with 404{WHICH}", False),
    "no text": (404, bytes(range(256)), "answered with 404", False),
    "a long page": (404, b"<p>" + b"long " * 10**6, f'answered with 404 "{"long " * 20}"{WHICH}', False),
    "markup without an end": (404, b"<script>" * 10**5, f"answered with 404{WHICH}", False),
    "not signed in": (401, PAGE, f'answered with 401 "It & works"{SIGN_IN}', False),
    "not allowed": (403, PAGE, f'answered with 403 "It & works"{SIGN_IN}', False),
    "too many": (429, PAGE, "answered with 429; too many requests; try again later", True),
    "a fault": (500, PAGE, f"answered with 500{FAILS}", True),
    "a proxy's fault": (502, PAGE, f"answered with 502{FAILS}", True),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_answers_and_is_no_mlflow_is_told_in_one_short_line(case, monkeypatch):
    code, said, line, passing = ANSWERS[case]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with serving([code], said, healthy=True) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(ValueError, match="^MLflow at") as refusal, client.registry() as opened:
            opened.get_registered_model("lesions")
    told = str(refusal.value).removeprefix(f"MLflow at {uri}: ")
    assert told == line or (case == "no text" and told.startswith(line) and told.isprintable())
    assert len(told) < 300
    assert isinstance(refusal.value, client.Unavailable) is passing


@pytest.mark.parametrize("used", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_server_whose_database_is_down_is_up(postgresql, tmp_path, monkeypatch, used):
    """It says so where it had reached its database before; else it tries to for a long time, and says nothing."""
    running = start_mlflow(postgresql.create_database(f"going_{used}"), tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    if used:
        with client.registry() as opened:
            opened.search_registered_models()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10" if used else "2")
    psql = [str(postgresql.programs / "psql"), "-qh", HOST, "-p", str(postgresql.port), "-U", "hymunet", "-d"]
    away = f'ALTER DATABASE "going_{used}" ALLOW_CONNECTIONS false'
    closed = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'going_{used}'"
    try:
        subprocess.run([*psql, "postgres", "-c", away, "-c", closed], check=True, stdout=subprocess.DEVNULL)
        with pytest.raises(client.Unavailable) as refusal, client.registry() as opened:
            opened.get_registered_model("lesions")
    finally:
        running.server.stop()
    silent = "no answer; is the address right, and are the server and its database up?"
    assert str(refusal.value) == f"MLflow at {running.uri}: {f'answered with 503{FAILS}' if used else silent}"


STRANGERS = {"an object": b"{}", "a list": b"[]", "a page": PAGE, "another program that is well": b'{"status": "ok"}'}


@pytest.mark.parametrize("said", STRANGERS.values(), ids=STRANGERS)
def test_what_answers_200_to_all_is_no_mlflow(said, monkeypatch):
    with serving([200], said) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        told = pytest.raises(ValueError, match=r"answered with 200.*is this the address of an MLflow")
        with told as refusal, client.registry() as opened:
            opened.search_registered_models()
    assert not isinstance(refusal.value, client.Unavailable), "another try finds the same"


def test_what_stands_before_mlflow_may_say_in_its_own_words_that_it_is_well():
    with serving([200], b"2.22.0") as uri:
        answer.await_answer(uri)


def test_one_that_is_starting_is_waited_for(capsys):
    with serving([503, 503, 200], b"OK") as uri:
        answer.await_answer(uri)
        assert capsys.readouterr().err == (
            f"MLflow at {uri}: the server answers with 503 Service Unavailable; trying for 8 s\n"
        )
