"""Copies between models, pages and cards, and events: what a release manager has beside promotion."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from hymunet.registry import notify
from hymunet.registry.client import CHALLENGER, CHAMPION

BASE = np.random.default_rng(0).uniform(0.7, 0.9, 30)


@pytest.fixture
def receiver(monkeypatch):
    """A server that keeps what it is sent and answers with `codes` in turn, then 200: address, bodies, codes."""
    got, codes = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.headers[notify.HEADER], body))
            if codes[:1] == [None]:  # no HTTP
                self.wfile.write(b"220 mail is taken here\r\n")
                return
            self.send_response(codes.pop(0) if codes else 200)
            self.send_header("Location", "/moved")
            self.end_headers()

        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(notify, "PAUSE", 0.01)
    yield f"http://127.0.0.1:{server.server_port}/hook", got, codes
    server.shutdown()
    server.server_close()


def test_a_champion_is_copied_to_production_and_promoted_there(registry, name, add, command):
    add(BASE)
    command("promote")
    to = f"{name}-prod"
    assert "would be the challenger" in command("copy", "--to", to, "--dry-run")[1]
    assert not registry.search_registered_models(f"name = '{to}'")
    assert json.loads(command("copy", "--to", to, "--json")[1])["version_there"] == "1"
    copied = registry.get_model_version_by_alias(to, CHALLENGER)
    original = registry.get_model_version(name, "1")
    assert copied.tags == {key: value for key, value in original.tags.items() if key != "hymunet.promotion"}
    assert command("promote", "--name", to)[0] == 0, "its gates are asked in production too"
    assert str(registry.get_registered_model(to).aliases[CHAMPION]) == "1"
    assert command("verify", "--name", to)[0] == 0
    assert "cannot be copied to itself" in command("copy", "--to", name)[2]


@pytest.mark.parametrize("verb", [("show",), ("card",), ("copy", "--to", "elsewhere")], ids=lambda verb: verb[0])
def test_without_a_champion_the_versions_that_there_are_are_named(registry, name, add, command, verb):
    assert f"{name} has no champion; register one: dvc repro register" in command(*verb)[2]
    add(BASE)
    add(BASE)
    assert f"{name} has no champion; name one of its versions: 2, 1" in command(*verb)[2]
    assert f"{name} has no version 7; name one of its versions: 2, 1" in command(verb[0], "7", *verb[1:])[2]


def test_events_are_signed_and_a_receiver_that_fails_changes_no_decision(
    name, add, command, champion, receiver, monkeypatch
):
    url, got, codes = receiver
    add(BASE)
    monkeypatch.delenv(notify.SECRET, raising=False)
    assert "set HYMUNET_NOTIFY_SECRET" in command("promote", "--notify", url)[2]
    assert champion() == "None", "nothing is decided that could not be told"
    monkeypatch.setenv(notify.SECRET, "between us")
    assert "expected an address with http" in command("promote", "--notify", "ftp://x")[2]
    command("promote", "--notify", url, "--dry-run")
    assert got == []
    codes += [503]
    assert command("promote", "--notify", url)[0] == 0
    (_, first), (signature, body) = got
    assert first == body, "tried again"
    assert signature == notify.signature("between us", body)
    assert signature != notify.signature("another", body)
    event = json.loads(body)
    assert (event["event"], event["model"], event["version"], event["entry"]) == ("promote", name, "1", 1)
    add(BASE - 0.02)
    codes += [404]
    code, _, said = command("promote", "--notify", url)
    assert (code, len(got)) == (1, 3)
    assert f"{url} was not told: answered 404" in said
    assert json.loads(got[-1][1])["event"] == "refuse"


@pytest.mark.parametrize(
    ("answers", "said"),
    {
        "moved": ([301], "answered 301; it has moved to /moved: name that address"),
        "moved for a while": ([307], "answered 307; it has moved to /moved: name that address"),
        "no HTTP": ([None], "answered in no HTTP (BadStatusLine: 220 mail is taken here)"),
    }.values(),
)
def test_a_receiver_that_has_moved_or_speaks_otherwise_is_said_not_to_be_told(
    name, add, command, champion, receiver, monkeypatch, answers, said
):
    """Redirected, the event would arrive as a GET without a body, and be lost."""
    url, _, codes = receiver
    codes += answers
    monkeypatch.setenv(notify.SECRET, "between us")
    add(BASE)
    code, _, told = command("promote", "--notify", url)
    assert (code, champion()) == (0, "1")
    assert f"{url} was not told: {said}" in told


@pytest.mark.parametrize(
    "url", ["http://", "http://host:port/", "http://host/a b", "https://[::1/x", "http://host:99999/"]
)
def test_an_address_that_nothing_can_be_sent_to_is_refused_before_the_decision(
    name, add, command, champion, monkeypatch, url
):
    monkeypatch.setenv(notify.SECRET, "between us")
    add(BASE)
    code, _, told = command("promote", "--notify", url)
    assert (code, champion()) == (1, "None")
    assert f"--notify {url}: expected an address with http:// or https://" in told


def test_the_page_shows_versions_and_decisions_and_needs_nothing_else(name, add, command, tmp_path):
    add(BASE)
    command("promote")
    add(BASE - 0.02)
    command("promote")
    command("promote", "--regardless", "--reason", "<script>alert(1)</script>")
    command("rollback", "--reason", "a fault")
    file = tmp_path / "page.html"
    assert command("page", "--output", str(file), "--dry-run")[0] == 0
    assert not file.exists()
    assert command("page", "--output", str(file))[0] == 0
    text = file.read_text()
    assert "Version 1 is champion" in text
    assert f"{BASE.mean():.4f} (0.1000 to 0.9000)" in text
    for said in (
        "4. version 1 is champion again, in place of version 2",
        "3. version 2 became champion, whatever the gates say, in place of version 1",
        "2. version 2 was refused, against version 1",
        "1. version 1 became champion",
    ):
        assert f"<b>{said}</b>" in text
    assert "lower end at least -0.0100" in text
    assert "&lt;script&gt;" in text
    for foreign in ("<script", "http://", "https://", "src=", "url("):
        assert foreign not in text


def test_without_a_card_or_a_manifest_that_is_said(registry, name, add, command, monkeypatch):
    add(BASE)
    registry.update_model_version(name, "1", "Described in words.")
    assert command("card", "1")[1] == "Described in words.\n"
    assert "has no champion" in command("card")[2]
    monkeypatch.delenv("HYMUNET_SIGNING_KEY", raising=False)
    assert "name a private key's file in HYMUNET_SIGNING_KEY" in command("sign")[2]
