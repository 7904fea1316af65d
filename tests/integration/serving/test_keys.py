"""The key from the environment: what surrounds it is left out, what no header can carry ends the start."""

import os
import subprocess
import sys

import pytest
import requests

from hymunet import cli
from hymunet.serving.contract import KEY
from hymunet.serving.keys import configured
from tests.support.image_files import good
from tests.support.serving import running

pytestmark = pytest.mark.integration
PNG = good()["PNG"]
OPENS = {  # what the variable holds -> what a client sends
    "as it is": ("k-3f9a1c", b"k-3f9a1c"),
    "of a Secret made with echo": ("k-3f9a1c\n", b"k-3f9a1c"),
    "of a file from Windows": ("k-3f9a1c\r\n", b"k-3f9a1c"),
    "white space all around": (" \t k-3f9a1c \r\n\n", b"k-3f9a1c"),
    "white space within": ("two words\tand a tab", b"two words\tand a tab"),
    "every visible sign": ("".join(map(chr, range(0x21, 0x7F))), bytes(range(0x21, 0x7F))),
    "letters of any script": ("schlüssel ключ 鍵", "schlüssel ключ 鍵".encode()),
    "bytes that are no UTF-8": (os.fsdecode(b"k\xff\xfe"), b"k\xff\xfe"),
}
ENDS = {  # what the variable holds -> what is said
    "nothing": ("", "is set and empty"),
    "a space": (" ", "is set and empty"),
    "white space alone": ("\r\n\t\n", "is set and empty"),
    "two lines": ("k-3f9a1c\nsecond", "character 9 is a line break"),
    "a carriage return within": ("k-3f9a1c\rsecond", "character 9 is a line break"),
    "a bell": ("\ak-3f9a1c", "character 1 is U+0007, a control character"),
    "an escape sequence": ("k-3f9a1c\x1b[0m", "character 9 is U+001B"),
    "delete": ("k-3f9a1c\x7f", "character 9 is U+007F"),
}


def test_without_the_variable_no_key_is_asked_for():
    assert configured({}) == ""


@pytest.mark.parametrize("case", OPENS)
def test_a_key_opens(model, case):
    held, sent = OPENS[case]
    with running(model, key=configured({KEY: held})) as server:
        assert server.post(PNG, headers={"X-API-Key": sent}).status_code == 200
        assert server.post(PNG, headers={"Authorization": b"Bearer " + sent}).status_code == 200
        for other in (b"", sent + b"x", sent[:-1]):
            assert server.post(PNG, headers={"X-API-Key": other}).status_code == 401
        assert requests.post(f"{server.address}/v1/segment", data=PNG, timeout=60).status_code == 401


@pytest.mark.parametrize("case", ENDS)
def test_a_key_that_none_can_send_ends_the_start_in_one_line(model, monkeypatch, capsys, case):
    held, said = ENDS[case]
    monkeypatch.setenv(KEY, held)
    assert cli.main(["serve", "--model", str(model), "--port", "0"]) == 1
    error = capsys.readouterr().err
    assert f"{KEY}" in error
    assert said in error
    assert "openssl rand -hex 32" in error
    assert error.count("\n") == 1
    assert "k-3f9a1c" not in error
    assert "second" not in error


def test_a_real_start_with_a_line_break_behind_the_key_asks_for_the_key(model):
    command = [sys.executable, "-m", "hymunet.cli", "serve", "--model", str(model), "--port", "0"]
    environment = os.environ | {KEY: "k-3f9a1c\n"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = next(line.split()[0] for line in process.stdout if line.startswith("http://"))
            for key, status in (("k-3f9a1c", 200), ("another", 401)):
                headers = {"X-API-Key": key}
                answer = requests.post(f"{address}/v1/segment", data=PNG, headers=headers, timeout=60)
                assert answer.status_code == status
        finally:
            process.terminate()
