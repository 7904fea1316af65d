"""docs/offline.md for real: installed from wheels, demonstrated and used where every packet to elsewhere is seen."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_demo import TINY
from tests.support import alone

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("make") is None, reason="no make"),
    pytest.mark.skipif(not alone.possible(), reason="no network namespaces for this user, or no `ip` and `unshare`"),
]
SERVED = """
import json, subprocess, sys, time, urllib.request
command = ["hymunet", "serve", "--port", "0"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
for line in server.stdout:
    print(line, end="")
    if "http://" in line:
        address = line[line.index("http://"):].split()[0].rstrip(".,/")
        break
assert b"<html" in urllib.request.urlopen(address, timeout=60).read()
server.terminate()
sys.exit(server.wait())
"""
NAMED = "git config user.name A && git config user.email a@example.org"  # dvc exp run asks for it
USES = {  # a name -> what a shell is told in the demo's folder, with IMAGE one of its images
    "predict": "hymunet predict IMAGE --output masks",
    "predict, the packaged model": "hymunet predict IMAGE --model bundled --output masks",
    "evaluate": "hymunet evaluate --prepared data/prepared --split data/split/split.csv --output again",
    "compare": "hymunet compare reports/evaluation again --output comparison",
    "export": "hymunet export --output model.onnx",
    "predict, by the exported file": "hymunet predict IMAGE --model model.onnx --output masks",
    "show-augment": "hymunet show-augment --output sheet.png",
    "models": "hymunet models list && hymunet models show 1 && hymunet models verify",
    "models page": "hymunet models page --output page.html",
    "promote": "hymunet models promote || hymunet models history",
    "summary": "hymunet summary && hymunet params && hymunet clean",
    "serve": f"python -c '{SERVED}'",
    "the pipeline for Kubeflow": "cd CHECKOUT && python -m pipelines compile --allow-tags",
    "dvc": f"cd CHECKOUT && {NAMED} && hymunet profile demo && dvc exp run -S train.epochs=2 && dvc status",
}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A clone that knows this environment's index, and what `make wheels` put into it."""
    clone = tmp_path_factory.mktemp("connected") / "hymunet"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    done = subprocess.run(["make", "wheels", f"PYTHON={sys.executable}"], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return clone


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Of a user who has run nothing yet."""
    return tmp_path_factory.mktemp("home")


def run(folder, home, *words, path=""):
    """The command's result, and the lines of what it asked of the internet."""
    record = home / "asked"
    environment = alone.environment(home, path=path)
    done = subprocess.run(
        alone.command(record, *words), cwd=folder, env=environment, capture_output=True, text=True, timeout=1500
    )
    return done, record.read_text().splitlines()


@pytest.fixture(scope="module")
def demonstrated(elsewhere, home, tmp_path_factory):
    """The carried checkout after `make demo WHEELS=wheels`, whose profile is small, with an installation of its own."""
    there = tmp_path_factory.mktemp("alone") / "hymunet"
    there.mkdir()
    carried = f"tar -cf - --exclude .venv . | tar -xf - -C {there}"
    subprocess.run(["bash", "-ec", carried], cwd=elsewhere, check=True)
    (there / "profiles/demo.yaml").write_text(TINY)
    done, asked = run(there, home, "make", "demo", "WHEELS=wheels", f"PYTHON={sys.executable}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert asked == []
    return there


def test_the_demo_installs_from_wheels_and_ends_with_a_registered_model(demonstrated):
    assert (demonstrated / "build/demo/reports/evaluation/report.html").stat().st_size > 0
    assert (demonstrated / "build/demo/reports/registration/registration.json").stat().st_size > 0


@pytest.mark.parametrize("name", USES)
def test_what_comes_after_asks_nothing_of_the_internet(demonstrated, home, name):
    images = sorted((demonstrated / "build/demo/data/raw").rglob("*.zip"))
    shell = USES[name].replace("IMAGE", str(images[0])).replace("CHECKOUT", str(demonstrated))
    done, asked = run(demonstrated / "build/demo", home, "bash", "-ec", shell, path=str(demonstrated / ".venv/bin"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert asked == []


def test_a_command_that_asks_is_seen(home, tmp_path):
    """Else the others would pass whatever was sent."""
    asks = "import socket; socket.create_connection(('hymunet.invalid', 443), timeout=1)"
    done, asked = run(tmp_path, home, sys.executable, "-c", asks)
    assert done.returncode == 1
    assert asked == ["name hymunet.invalid"]
    asks = asks.replace("hymunet.invalid", "198.51.100.9")
    assert run(tmp_path, home, sys.executable, "-c", asks)[1] == ["tcp 198.51.100.9 port 443"]


def test_to_predict_a_checkout_is_not_needed(elsewhere, demonstrated, home, tmp_path):
    image = next((demonstrated / "build/demo/data/raw").rglob("*.zip"))
    commands = f"""
        {sys.executable} -m venv env
        env/bin/pip install --quiet --no-index --find-links {elsewhere}/wheels 'hymunet[torch]'
        env/bin/hymunet predict {image} --output masks
    """
    done, asked = run(tmp_path, home, "bash", "-ec", commands)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert list((tmp_path / "masks").rglob("*.png"))
    assert asked == []
