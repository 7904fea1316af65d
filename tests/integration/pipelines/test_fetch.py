"""`python -m pipelines fetch`: a run of the real project's first stages, brought home into a fresh clone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from hymunet.params import read_yaml
from tests.integration.pipelines.toy import executor_input_of

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[3]
SOURCES = ["dvc.yaml", "params.yaml", ".dvcignore", ".dvc/config", "hymunet", "components", "pipelines"]


def copy(target: Path) -> Path:
    for name in SOURCES:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target / name)
    return target


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "1"}
    return subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env=env, capture_output=True, text=True)


def test_a_run_comes_home_with_its_parameters_and_outputs(tmp_path: Path) -> None:
    remote, image, clone = tmp_path / "remote", copy(tmp_path / "image"), copy(tmp_path / "clone")
    remote.mkdir()
    params = read_yaml(ROOT / "params.yaml")
    params["data"] |= {"source": "synthetic", "synthetic": {"images": 12, "size": 64, "seed": 0}}
    params["prepare"]["image_size"] = 32
    for stage, before in (("download", None), ("prepare", "download")):
        told = executor_input_of(tmp_path / stage, tmp_path / before / "lock" if before else None)
        step = ["pipelines.step", "--stage", stage, "--run", "r1", "--remote", str(remote), "--source", str(image)]
        done = command(image, *step, "--params", json.dumps(params), "--executor-input", json.dumps(told))
        assert done.returncode == 0, done.stderr

    settings = {"images": {"cpu": "x", "data": "x"}, "dvc_remote": str(remote)}
    with (tmp_path / "settings.yaml").open("w") as file:
        YAML().dump(settings, file)
    for arguments in (
        ["init", "-q"],
        ["add", "params.yaml"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *arguments], cwd=clone, check=True)

    # Work that git does not have is not overwritten, and a pull that fails leaves no trace.
    committed = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text(committed.replace("epochs: ", "epochs: 1"))
    changed = (clone / "params.yaml").read_text()
    (clone / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    settings_option = ["--settings", str(tmp_path / "settings.yaml")]
    done = command(clone, "pipelines", "fetch", "r1", *settings_option)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "pipelines: dvc.lock and params.yaml: not committed, and run r1 has another; commit it, or pass --force"
    )
    assert (clone / "params.yaml").read_text() == changed
    objects = remote / "files"
    objects.rename(remote / "hidden")
    done = command(clone, "pipelines", "fetch", "r1", "--force", *settings_option)
    assert done.returncode == 1
    assert (clone / "params.yaml").read_text() == changed
    assert (clone / "dvc.lock").read_text() == "schema: '2.0'\nstages: {}\n"
    (remote / "hidden").rename(objects)
    (clone / "params.yaml").write_text(committed)
    (clone / "dvc.lock").unlink()

    done = command(clone, "pipelines", "fetch", "r1", "--settings", str(tmp_path / "settings.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (clone / "data/prepared/images.npy").exists()
    assert "up to date" in command(clone, "dvc", "status", "download", "prepare").stdout
    home = (clone / "params.yaml").read_text()
    assert "images: 12" in home
    assert home.count("#") == (ROOT / "params.yaml").read_text().count("#"), "comments are lost"

    done = command(clone, "pipelines", "fetch", "unknown", "--settings", str(tmp_path / "settings.yaml"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("pipelines: run unknown: no lock is recorded")
