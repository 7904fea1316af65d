"""Values of YAML that are not what they look like: a line that names the file or the key, whoever reads them."""

from pathlib import Path

import pytest

from components.cli import guarded
from components.split.__main__ import main
from hymunet import yaml_text

PAPER = Path(__file__).resolve().parents[2] / "profiles/paper.yaml"
READ = {"1e-3": 0.001, "1_000": 1000, "010": 10, "0o17": 15, "no": "no", "off": "off", "12:30": "12:30", "1e3": 1000.0}
REFUSED = {
    "0x_": "not readable (invalid literal",
    "0b_": "not readable (invalid literal",
    "2018-13-45": "not readable (month must be in 1..12)",
    "1" * 5000: "not readable (Exceeds the limit",
    "!!int many": "not readable (invalid literal",
    "!!float many": "not readable (could not convert",
    "!!bool maybe": "not readable ('maybe')",
    "[" * 3000: "not readable (maximum recursion depth",
    "&a [*a]": "endless, as an anchor in it contains itself",
    "&a {seed: *a}": "endless, as an anchor in it contains itself",
    "&a [&b [*a], *b]": "endless, as an anchor in it contains itself",
    "{a: 1, a: 2}": "not valid YAML: while constructing",
    "*nobody": "not valid YAML: ",
}


@pytest.mark.parametrize("text", READ)
def test_what_a_word_means(text: str) -> None:
    assert yaml_text.read(text, "") == READ[text]


@pytest.mark.parametrize("text", REFUSED)
@pytest.mark.parametrize("by", ["file", "option"])
def test_what_is_not_what_it_looks_like_is_refused_in_a_line(
    text: str, by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By exit code 1, as another try does not help: some ended in a traceback with 70, others named no file."""
    file = tmp_path / "params.yaml"
    written = PAPER.read_text(encoding="utf-8")
    file.write_text(written.replace("seed: 2018", f"seed: {text}") if by == "file" else written, encoding="utf-8")
    words = ["--params", str(file), "--output", str(tmp_path / "out")]
    words += ["--set", f"split.seed={text}"] if by == "option" else []
    assert guarded("split", lambda: main(words)) == 1
    [line] = capsys.readouterr().err.splitlines()
    named = f"split: {file}: " if by == "file" else f"split: 'split.seed={text}': the value is "
    assert line.startswith(named), line[:200]
    assert REFUSED[text] in line


def test_an_anchor_in_many_places_is_read_once() -> None:
    lines = ["a0: &a0 [1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40))]
    assert len(yaml_text.read("\n".join(lines), "")) == 40
