"""A program whose reader has gone does its work all the same; one whose output's disk is full says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hymunet.streams import hand_over

ROOT = Path(__file__).resolve().parents[2]
PRINTS = "import sys; from components.cli import guarded; sys.exit(guarded('split', lambda: print('split: done')))"
PROGRAMS = {
    "help": ["-m", "hymunet.cli", "--help"],
    "a verb's help": ["-m", "hymunet.cli", "study", "run", "--help"],
    "a verb": ["-m", "hymunet.cli", "params"],
    "a step": ["-c", PRINTS],
    "a step's help": ["-m", "components.split", "--help"],
    "pipelines' help": ["-m", "pipelines", "--help"],
    "pipelines": ["-m", "pipelines", "compile", "--params", "profiles/paper.yaml", "--allow-tags", "--output", "OUT"],
}


def run(program: str, output: int, tmp_path: Path, errors: int = subprocess.PIPE) -> tuple[int, str]:
    own = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    words = [str(tmp_path / "pipeline.yaml") if word == "OUT" else word for word in PROGRAMS[program]]
    ended = subprocess.run([sys.executable, *words], cwd=ROOT, env=own, stdout=output, stderr=errors)
    return ended.returncode, (ended.stderr or b"").decode()


WARNS = """
import sys, warnings
from pathlib import Path
import torch
from hymunet import precision
def warn(*_):
    precision.computes_in_bfloat16 = lambda device: False
    precision.autocast_dtype("bf16", torch.device("cpu"))
    warnings.warn_explicit("first\\n  second", UserWarning, "/x/site-packages/somelib/a.py", 7)
    return 0
"""
BY = {
    "a step": "from components.cli import guarded; sys.exit(guarded('train', warn))",
    "hymunet": "from hymunet import cli; cli.run_params = warn; sys.exit(cli.main(['params']))",
    "pipelines": "from pipelines import __main__ as p; p.check = warn; sys.exit(p.main(['check']))",
}


@pytest.mark.parametrize("program", BY)
def test_a_warning_is_a_line_and_shows_no_source(program: str) -> None:
    ended = subprocess.run([sys.executable, "-c", WARNS + BY[program]], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines() == [
        "precision bf16: cpu only emulates bfloat16 here; auto would be faster",
        "somelib: first second",
    ]


SCANS = """
import logging, sys
import torch
from hymunet.ops import cpu, selective_scan
from hymunet.streams import by_line
CONFIGURED
by_line()
cpu.unavailable = lambda device: "no kernel here"
for dtype in (torch.float32, torch.float16):
    selective_scan.choose_backend("auto", "cpu", dtype, 16)
"""


@pytest.mark.parametrize("configured", ["", "logging.basicConfig(level=logging.WARNING)"], ids=["plain", "a server"])
def test_what_is_logged_and_warned_of_is_one_line(configured: str) -> None:
    program = [sys.executable, "-c", SCANS.replace("CONFIGURED", configured)]
    ended = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    said = [line for line in ended.stderr.splitlines() if "slow export backend" in line]
    assert len(said) == 1, ended.stderr


@pytest.fixture
def left() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_reader_who_has_seen_enough_is_no_error(program: str, left: int, tmp_path: Path) -> None:
    code, said = run(program, left, tmp_path)
    assert "BrokenPipe" not in said
    assert "Broken pipe" not in said
    assert code == 0


@pytest.mark.parametrize("program", ["a verb", "a step"])
def test_nor_is_it_where_the_errors_go_to_the_same_pipe(program: str, left: int, tmp_path: Path) -> None:
    assert run(program, left, tmp_path, errors=subprocess.STDOUT)[0] == 0


@pytest.mark.parametrize(("program", "code"), [("a verb", 1), ("a step", 74)])
def test_a_full_disk_below_the_output_is_said_to_be_that(program: str, code: int, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        found, said = run(program, full.fileno(), tmp_path)
    assert found == code
    assert "standard output: No space left on device; `hymunet clean` lists what may go" in said
    assert len(said.splitlines()) == 1


def test_a_pipe_that_is_named_as_a_file_takes_the_text_and_stays_a_pipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for place in (tmp_path / "file.json", tmp_path / "file.json", tmp_path / "pipe", Path("/dev/stdout")):
        hand_over("größer\n", place)
    assert os.read(reader, 100).decode() == "größer\n"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "file.json").read_text(encoding="utf-8") == "größer\n"
    assert capsys.readouterr().out == "größer\n"


def test_a_server_that_hangs_up_is_still_an_error() -> None:
    program = "from components.cli import guarded\ndef step(): raise BrokenPipeError(32, 'Broken pipe')\n"
    program += "raise SystemExit(guarded('train', step))"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (74, "train: [Errno 32] Broken pipe\n")


def test_work_is_done_to_its_end_and_says_its_own_code(left: int, tmp_path: Path) -> None:
    program = (
        f"from pathlib import Path\nfrom components.cli import guarded\nplace = Path({str(tmp_path / 'saved')!r})\n"
    )
    program += "def step():\n    print('epoch 1')\n    print('stopping')\n    place.touch()\n    return 75\n"
    ended = subprocess.run(
        [sys.executable, "-c", f"{program}raise SystemExit(guarded('train', step))"], cwd=ROOT, stdout=left
    )
    assert ended.returncode == 75
    assert (tmp_path / "saved").exists()


CLOSED = ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"]
WORKS = """
import os, sys
from components.cli import guarded

def main():
    written = open(sys.argv[1], "w")
    from tqdm import tqdm
    with tqdm(total=2, disable=None) as bar:
        bar.write("said")
        print("said", file=sys.stderr, flush=True)
        os.system("echo said; echo said >&2")
        sys.stdin.read()
    written.write(f"done, {written.fileno() > 2}")
    return 3

sys.exit(guarded("split", main))
"""


@pytest.mark.parametrize("closed", CLOSED)
def test_a_stream_that_was_closed_at_the_start_costs_no_work_and_gets_no_files_number(
    closed: str, tmp_path: Path
) -> None:
    file = tmp_path / "written"
    command = ["bash", "-c", f'"$0" "$@" {closed}', sys.executable, "-c", WORKS, str(file)]
    ended = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert ended.returncode == 3, ended.stderr
    assert file.read_text() == "done, True"
