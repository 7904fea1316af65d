"""`make demo` from a fresh clone, in miniature: the checkout is as before, and what it registers has a clean commit."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]
TINY = """
data: {source: synthetic, synthetic: {images: 40, size: 64}}
prepare: {image_size: 32}
validate: {min_images: 10, mask_area: [0.0, 1.0], median_mask_area: [0.0, 1.0]}
train: {epochs: 1, batch_size: 8, workers: 0, example_every: 0}
evaluate: {bootstrap: 100}
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_the_demo_leaves_the_checkout_clean(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    for library in (ROOT / "hymunet").rglob("*.so"):
        shutil.copy(library, clone / library.relative_to(ROOT))
    (clone / "profiles/demo.yaml").write_text(TINY)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *command], cwd=clone, check=True)
    venv = Path(sys.prefix)
    before = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "HYMUNET_"))}
    # -o: the installation is this test's own; its sources are found in the folder of the demo.
    demo = ["make", "demo", f"VENV={venv}", "-o", f"{venv}/.all"]
    environment = {**before, "PYTHONPATH": "", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(demo, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "test Dice" in done.stdout
    assert subprocess.check_output(["git", "status", "--porcelain"], cwd=clone, text=True) == ""
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=clone, text=True).strip()
    with sqlite3.connect(clone / "build/demo/mlflow.db") as registry:
        query = "select distinct value from tags where key = 'mlflow.source.git.commit'"
        commits = {value for (value,) in registry.execute(query)}
    assert commits == {head}
    again = subprocess.run(demo, cwd=clone, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-3000:]
    assert re.findall(r"Running stage '(\w+)'", again.stdout) == ["register"], "which asks its registry each time"
    assert "hymunet version 1 is the challenger" in again.stdout
