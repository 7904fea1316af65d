"""What the images say of themselves, as far as it can be read and tried without building them."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NAMING = re.compile(r"\b(?:COMMIT|commit)=\$\((git [^)|]+?)(?: 2>[^)]*)?\)")


@pytest.mark.parametrize("file", ["infra/docker/demo.sh", "infra/docker/Dockerfile", "docs/kubeflow.md"])
def test_the_image_of_a_changed_tree_says_so(file: str, tmp_path: Path) -> None:
    """Every command that names the commit of an image, run in a clean tree and in a changed one."""
    commands = NAMING.findall((ROOT / file).read_text())
    assert commands, "no command was found"
    for command in commands:
        tree = tmp_path / str(commands.index(command))
        tree.mkdir()
        for arguments in (["init", "-q"], ["commit", "-qm", "x", "--allow-empty"], ["tag", "v1"]):
            subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=tree, check=True)
        (tree / "file").write_text("x")
        subprocess.run(["git", "add", "file"], cwd=tree, check=True)
        named = subprocess.run(["bash", "-c", command], cwd=tree, capture_output=True, text=True, check=True).stdout
        assert re.fullmatch(r"[0-9a-f]{40}-dirty\n", named), command
        subprocess.run(["git", "rm", "-qf", "file"], cwd=tree, check=True)
        named = subprocess.run(["bash", "-c", command], cwd=tree, capture_output=True, text=True, check=True).stdout
        assert re.fullmatch(r"[0-9a-f]{40}\n", named), command
