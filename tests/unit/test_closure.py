"""The files that a module runs on, and the hash of what they say: a small project, changed in one place at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from hymunet import closure

PROJECT = {
    "hymunet/__init__.py": '"""Nothing but words."""\n',
    "hymunet/start.py": '''"""The start."""
from __future__ import annotations
import importlib
from typing import TYPE_CHECKING
from hymunet import losses
from hymunet.ops.scan import scan  # the scan
from . import near
if TYPE_CHECKING:
    from hymunet import only_types

def start(name: str = "hymunet.unnamed") -> None:
    """Starts."""
    from hymunet.late import late
    importlib.import_module(f"hymunet.plugins.{name}")
    run([executable, "-m", "hymunet.worker"], losses, f"{name:>{8}} of {late!r}")
''',
    "hymunet/losses.py": "ALPHA = 0.5\n",
    "hymunet/near.py": "PAGE = 'page.html'\nFOLDER = 'templates'\nSCRIPT = 'loaded/by_path.py'\nLEFT = '__pycache__'\n",
    "hymunet/__pycache__/near.cpython-311.pyc": "",
    "hymunet/page.html": "<p>\n",
    "hymunet/templates/a.html": "<b>\n",
    "hymunet/loaded/by_path.py": "X = 1\n",
    "hymunet/late.py": "import os\nlate = os.sep\n",
    "hymunet/only_types.py": "X = 1\n",
    "hymunet/unnamed.py": "X = 1\n",
    "hymunet/worker.py": "X = 1\n",
    "hymunet/plugins/one.py": "X = 1\n",
    "hymunet/plugins/two.py": "X = 1\n",
    "hymunet/ops/__init__.py": "SPEED = 1\n",
    "hymunet/ops/scan.py": "LIBRARY = Path(__file__).with_name('_scan.so')\n\n\ndef scan():\n    return LIBRARY\n",
    "hymunet/ops/csrc/scan.cpp": 'int a = 1;  // one\nconst char* s = "// not a comment";\n/* two\n lines */ int b;\n',
    "hymunet/stranger.py": "X = 1\n",
}
CLOSURE = {
    *("hymunet/start.py", "hymunet/losses.py", "hymunet/near.py", "hymunet/page.html", "hymunet/templates/a.html"),
    *("hymunet/loaded/by_path.py", "hymunet/late.py", "hymunet/worker.py", "hymunet/plugins/one.py"),
    *("hymunet/plugins/two.py", "hymunet/ops/__init__.py", "hymunet/ops/scan.py", "hymunet/ops/csrc/scan.cpp"),
}


@pytest.fixture
def project(tmp_path):
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def code_hash(root: Path) -> str:
    return closure.sha256(closure.files("hymunet.start", root=root), root)


def test_the_closure_is_what_the_module_runs_on(project):
    assert set(closure.files("hymunet.start", root=project)) == CLOSURE
    assert set(closure.files(Path("hymunet/start.py"), root=project)) == CLOSURE


def test_a_file_left_out_takes_with_it_what_only_it_imports(project):
    files = closure.files("hymunet.start", without=["hymunet/ops/scan.py", "hymunet/near.py"], root=project)
    gone = {"hymunet/ops/__init__.py", "hymunet/ops/scan.py", "hymunet/ops/csrc/scan.cpp", "hymunet/near.py"}
    gone |= {"hymunet/page.html", "hymunet/templates/a.html", "hymunet/loaded/by_path.py"}
    assert set(files) == CLOSURE - gone


def test_a_module_left_out_needs_its_package_no_more(project):
    without = ["hymunet/ops/scan.py"]
    (project / "hymunet/ops/__init__.py").write_text("from hymunet.stranger import X\n")
    (project / "hymunet/late.py").write_text("from hymunet.ops import scan\nlate = scan\n")
    assert "hymunet/stranger.py" in closure.files("hymunet.start", root=project)
    assert "hymunet/ops/__init__.py" not in closure.files("hymunet.start", without=without, root=project)
    (project / "hymunet/near.py").write_text("from hymunet.ops import X\n")
    assert "hymunet/stranger.py" in closure.files("hymunet.start", without=without, root=project)


def test_other_packages_can_be_ones_own(project):
    (project / "clinic.py").write_text("import hymunet.losses\nimport clinic_layers\nimport torch\n")
    (project / "clinic_layers.py").write_text("X = 1\n")
    own = ["clinic", "clinic_layers"]
    assert closure.files("clinic", root=project, packages=own) == ["clinic.py", "clinic_layers.py"]


@pytest.mark.parametrize("start", ["hymunet.typo", "torch", Path("hymunet/typo.py")])
def test_a_start_that_does_not_exist_is_named(project, start):
    with pytest.raises(ValueError, match=f"^{start}: no module or file of the project"):
        closure.files(start, root=project)


@pytest.mark.parametrize(
    ("name", "old", "new", "same"),
    [
        ("start.py", "  # the scan", "", True),
        ("start.py", '"""Starts."""', '"""Begins."""', True),
        ("start.py", '    """Starts."""\n', "", True),
        ("start.py", "import importlib\n", "import importlib\n\n\n", True),
        ("start.py", '"hymunet.unnamed"', "'hymunet.unnamed'", True),
        ("start.py", "scan import scan", "scan import (\n    scan,\n)", True),
        ("start.py", "unnamed", "other", False),
        ("start.py", "{name:>{8}}", "{name:>{9}}", False),
        ("start.py", "{late!r}", "{late}", False),
        ("losses.py", "0.5", ".50", True),
        ("losses.py", "0.5", "0.6", False),
        ("losses.py", "0.5", "'0.5'", False),
        ("losses.py", "ALPHA = 0.5", "ALPHA = 0.5 + True", False),
        ("ops/__init__.py", "1", "2", False),
        ("ops/csrc/scan.cpp", "// one", "// 1", True),
        ("ops/csrc/scan.cpp", "int a = 1;  // one", "int  a =\t1;", True),
        ("ops/csrc/scan.cpp", "/* two\n lines */ int b;", "\n\nint b; // last", True),
        ("ops/csrc/scan.cpp", "// not a comment", "// no comment", False),
        ("ops/csrc/scan.cpp", "int b", "long b", False),
        ("page.html", "<p>", "<i>", False),
        ("loaded/by_path.py", "1", "2", False),
        ("plugins/two.py", "1", "2", False),
        ("stranger.py", "1", "2", True),
        ("only_types.py", "1", "2", True),
        ("__init__.py", "words", "phrases", True),
    ],
)
def test_the_hash_changes_with_what_the_code_says_and_with_nothing_else(project, name, old, new, same):
    before = code_hash(project)
    file = project / "hymunet" / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    assert (code_hash(project) == before) is same


def test_a_module_added_later_changes_nothing_unless_it_is_imported(project):
    before = code_hash(project)
    (project / "hymunet/new.py").write_text("X = 1\n")
    assert code_hash(project) == before
    (project / "hymunet/plugins/three.py").write_text("X = 1\n")
    assert code_hash(project) != before


def test_the_hash_is_the_same_on_every_supported_python(project):
    assert code_hash(project) == "bcbb14d578554a3a862e34680e1cd2b2be085dbd94c31e7250c48ba1b5c8e3f1"


def test_a_real_closure_is_quick_and_imports_nothing():
    program = (
        "import sys, time\n"
        "from hymunet import closure\n"
        "files = closure.files('hymunet.training.trainer')\n"
        "closure.sha256(files)\n"
        "print(len(files), time.process_time(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=closure.ROOT)
    count, seconds, torch = done.stdout.split()
    assert int(count) > 30
    assert torch == "False"
    assert float(seconds) < 3
