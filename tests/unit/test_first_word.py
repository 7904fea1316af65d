"""A command says something at once: no help loads a heavy library, a list needs neither torch nor MLflow, and a
terminal is told while libraries load."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_cli import HEAVY

ROOT = Path(__file__).resolve().parents[2]
EVERY_HELP = """
import argparse, contextlib, io, sys
from hymunet import cli

def paths(parser, words=()):
    yield words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from paths(below, (*words, name))

for words in paths(cli.parser()):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            cli.main([*words, "--help"])
        except SystemExit as end:
            assert end.code == 0, words
    assert said.getvalue().startswith("usage: hymunet " + " ".join(words)), words
    print("/".join(words), *sorted({name.partition(".")[0] for name in sys.modules}))
"""
CALL = """
import sys
from hymunet import cli
code = cli.main(sys.argv[1:])
print("imported:", *sorted({"torch", "mlflow"} & sys.modules.keys()))
sys.exit(code)
"""
CHEAP = (
    "params",
    "clean",
    "deliver",
    "deploy --kserve --model models:/m/1 --image i@sha256:00",
    "study status studies/recipe",
    "study tables studies/recipe --check",
)
NO_REGISTRY = {  # action -> what else it needs
    **dict.fromkeys(("list", "show", "card", "history", "verify", "page", "rollback"), ""),
    "copy": "--to n",
    "acknowledge": "1 --reason r",
    **dict.fromkeys(("compare", "promote"), f"--params {ROOT}/params.yaml"),
    "approve": f"--params {ROOT}/params.yaml --reason r",
}
SLOW = "import sys, time; from hymunet import cli; cli.run_params = WORK; sys.exit(cli.main(['params']))"
NOTE = "hymunet params: at work …"


def test_the_help_of_every_verb_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", EVERY_HELP], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ") for line in done.stdout.splitlines()]
    assert {"", "evaluate", "models/promote", "study/status"} <= {path for path, *_ in lines}
    assert {path: HEAVY & set(loaded) for path, *loaded in lines if HEAVY & set(loaded)} == {}


@pytest.mark.parametrize("words", CHEAP)
def test_what_is_only_looked_up_is_told_without_torch_and_mlflow(words):
    done = subprocess.run([sys.executable, "-c", CALL, *words.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["imported:"], done.stderr


@pytest.mark.parametrize("action", NO_REGISTRY)
def test_a_registry_that_is_not_there_is_told_without_loading_mlflow(tmp_path, action):
    own = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "-c", CALL, "models", action, "--name", "m", *NO_REGISTRY[action].split()]
    done = subprocess.run(command, cwd=tmp_path, env={**own, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert f"{tmp_path}/mlflow.db: there is no registry at this path" in done.stderr
    assert (done.returncode, done.stdout) == (1, "imported:\n")
    assert list(tmp_path.iterdir()) == []


def on_a_terminal(program: str, **streams: int) -> str:
    """What a terminal shows of a program: both streams, or standard error alone where the other goes elsewhere."""
    screen, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=streams.get("stdout", end), stderr=end
    ) as running:
        os.close(end)
        seen = b""
        try:
            while part := os.read(screen, 1000):
                seen += part
        except OSError:  # the end, on Linux
            pass
        os.close(screen)
    assert running.returncode == 0
    return seen.decode()


@pytest.mark.parametrize(
    ("work", "after"),
    [
        ("lambda _: time.sleep(1.5)", ""),
        ("lambda _: (time.sleep(1.5), print('done'), time.sleep(0.5), print('all'))[4:]", "done\r\nall\r\n"),
        ("lambda _: (time.sleep(1.5), print('oh', file=sys.stderr))[2:]", "oh\r\n"),
    ],
    ids=["prints nothing", "prints", "warns"],
)
def test_a_terminal_is_told_of_work_until_something_is_printed(work, after):
    cleared = f"\r{' ' * len(NOTE.encode())}\r"
    assert on_a_terminal(SLOW.replace("WORK", work)) == f"{NOTE}{cleared}{after}"


def test_what_is_printed_at_once_stands_alone():
    work = "lambda _: (print('done'), time.sleep(1))[2:]"
    assert on_a_terminal(SLOW.replace("WORK", work)) == "done\r\n"


def test_a_pipe_is_told_nothing(tmp_path):
    program = SLOW.replace("WORK", "lambda _: (time.sleep(1), print('done'))[2:]")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_the_terminal_is_told_where_the_output_goes_into_a_file(tmp_path):
    program = SLOW.replace("WORK", "lambda _: (time.sleep(1.5), print('done'))[2:]")
    with (tmp_path / "out").open("wb") as file:
        assert on_a_terminal(program, stdout=file.fileno()).startswith(NOTE)
    assert (tmp_path / "out").read_text() == "done\n"
