"""What the images say of themselves, as far as it can be read and tried without building them."""

import ast
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


def compiled_parts() -> dict[str, str]:
    """Folder of the library -> folder of what it is compiled from, by setup.py."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    modules = [text for text in texts if re.fullmatch(r"hymunet(\.\w+)+\._\w+", text)]
    folders = [text.rpartition(".")[0].replace(".", "/") for text in modules]
    sources = {text.rpartition("/")[0] if text.endswith(".cpp") else text for text in texts if "/csrc" in text}
    return {folder: source for folder in folders for source in sources if source == f"{folder}/csrc"}


def test_every_compiled_part_is_in_the_images() -> None:
    """One that is not would be done without, in silence, more slowly."""
    parts = compiled_parts()
    assert len(parts) == 3
    dockerfile = (ROOT / "infra/docker/Dockerfile").read_text(encoding="utf-8")
    builder, project = (
        re.search(rf"AS {name}\n(.*?)\n\n?FROM", dockerfile, re.DOTALL) for name in ("builder", "project")
    )
    smoke = (ROOT / "infra/docker/smoke.sh").read_text(encoding="utf-8")
    assert builder
    assert project
    for folder, source in parts.items():
        assert any(
            re.fullmatch(rf"COPY {path} {path}", line) for path in (folder, source) for line in builder[1].splitlines()
        ), folder
        assert f"COPY --from=builder /built/{folder}/*.so /app/{folder}/" in project[1], folder
        assert f"from {folder.replace('/', '.')} import" in smoke, folder
