"""Text is UTF-8, wherever the program runs: no file is opened in the locale's encoding."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for room in ("hymunet", "components", "pipelines")
    for path in ROOT.glob(f"{room}/**/*.py")
)


def in_the_locale_s_encoding(tree: ast.AST) -> list[int]:
    """Lines with read_text, write_text or open in a text mode, and no encoding."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        if ast.unparse(node.func) in ("os.open", "self._zip.open", "opened.open", "Image.open"):  # bytes alone
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        position = 0 if isinstance(node.func, ast.Attribute) else 1
        written = [keyword.value for keyword in node.keywords if keyword.arg == "mode"] + node.args[
            position : position + 1
        ]
        mode = written[0].value if written and isinstance(written[0], ast.Constant) else "r"
        opens = name in ("open", "fdopen") and isinstance(mode, str) and "b" not in mode and set(mode) <= set("rwaxt+")
        reads = name == "read_text" and not node.args
        writes = name == "write_text" and len(node.args) < 2
        if reads or writes or opens:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("file", FILES)
def test_text_is_opened_as_utf_8(file):
    assert in_the_locale_s_encoding(ast.parse((ROOT / file).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("path.read_text()", True),
        ("path.write_text(text)", True),
        ("open(path, newline='')", True),
        ("path.open('w')", True),
        ("path.read_text(encoding='utf-8')", False),
        ("open(path, 'rb')", False),
        ("path.open('xb')", False),
    ],
)
def test_the_check_sees(code, wrong):
    assert bool(in_the_locale_s_encoding(ast.parse(code))) == wrong
