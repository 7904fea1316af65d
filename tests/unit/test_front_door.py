"""What a contributor meets first agrees with what is there: workflows, links, make targets, the version."""

import importlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import hymunet

ROOT = Path(__file__).resolve().parents[2]
YAMLS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(".github/**/*.yml"))
WORKFLOWS = [name for name in YAMLS if "/workflows/" in name]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "studies/*.md", "components/*/README.md", ".github/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)([^)\s]+)\)")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def read(name: str):
    return YAML(typ="safe").load((ROOT / name).read_text(encoding="utf-8"))


def slug(heading: str) -> str:
    """The address that a heading gets: lower case, words joined by hyphens, no other signs."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken(page: str, text: str) -> list[str]:
    """Links of a page, relative to it, that lead nowhere."""
    found = []
    for target in LINK.findall(text):
        path, _, part = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists():
            found.append(target)
        elif part and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            if part not in map(slug, headings):
                found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    assert broken(page, (ROOT / page).read_text(encoding="utf-8")) == []


def test_the_check_sees_links_that_lead_nowhere():
    text = (
        "[a](README.md) [b](nothing.md) [c](docs/data.md#sources) [d](docs/data.md#nowhere) [e](https://example.org/x)"
    )
    assert broken("README.md", text) == ["nothing.md", "docs/data.md#nowhere"]


@pytest.mark.parametrize("name", YAMLS)
def test_forms_and_workflows_are_read(name):
    content = read(name)
    assert content["name"]
    if name in WORKFLOWS:
        assert content["permissions"] == {"contents": "read"}, "a workflow asks for no more than a job of it needs"
        assert all(job["runs-on"] for job in content["jobs"].values())
    else:
        assert all(part["attributes"]["label"] for part in content["body"])


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_call_targets_that_there_are(name):
    for job in read(name)["jobs"].values():
        choices = job.get("strategy", {}).get("matrix", {}).get("target", [])
        called = {word for step in job["steps"] for word in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
        assert called | set(choices) <= TARGETS


# What a workflow does by itself: the system's packages, an API server's programs, and what only a release needs.
OWN = (
    "sudo apt-get update && sudo apt-get install ",
    "go install sigs.k8s.io/controller-runtime/tools/setup-envtest@",
    "grep -qx ",
    "pip install cibuildwheel",
    "pip install build ",
    "pip install twine ",
)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_a_workflow_runs_can_be_run_by_hand(name):
    for job in read(name)["jobs"].values():
        for step in job["steps"]:
            assert "run" not in step or re.fullmatch(r"make [a-z$].*", step["run"]) or step["run"].startswith(OWN), step


def test_targets_are_listed_and_phony():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert set(phony.split()) == TARGETS
    assert all(re.search(rf"^{target}:.*## \S", makefile, re.MULTILINE) for target in TARGETS)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
@pytest.mark.parametrize("folder", ["wheels", "nowhere/at/all"])
def test_a_folder_that_holds_no_wheels_is_named(tmp_path, folder):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "wheels").mkdir()
    done = subprocess.run(["make", "setup", f"WHEELS={folder}"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no wheels in WHEELS={folder}: on a machine with internet, make wheels" in done.stderr


def test_the_releases_own_check_takes_the_version_and_no_other():
    [command] = [
        step["run"]
        for step in read(".github/workflows/release.yml")["jobs"]["build"]["steps"]
        if step.get("run", "").startswith("grep")
    ]
    for name, code in ((f"v{hymunet.__version__}", 0), ("v99.0.0", 1)):
        environment = {"GITHUB_REF_NAME": name, "PATH": os.environ["PATH"]}
        assert subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment).returncode == code


def test_a_wheel_is_released_with_every_compiled_part_or_not_at_all(tmp_path):
    """The command that cibuildwheel tries a wheel with, on this checkout's package, and on one that lacks a part."""
    [step] = [
        step
        for step in read(".github/workflows/release.yml")["jobs"]["build"]["steps"]
        if "CIBW_TEST_COMMAND" in step.get("env", {})
    ]
    command = step["env"]["CIBW_TEST_COMMAND"].partition("&& ")[2]
    parts = sorted((ROOT / "hymunet").rglob("*.so"))
    if len(parts) != 3:
        pytest.skip("the compiled parts are not built in this checkout")
    for kept, code in ((parts, 0), (parts[1:], 1)):
        package = tmp_path / str(len(kept)) / "hymunet"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        for part in kept:
            shutil.copy(part, package)
        environment = {"PYTHONPATH": str(package.parent), "PATH": os.environ["PATH"]}
        assert subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment).returncode == code


def test_pages_name_targets_that_there_are():
    for page in ("README.md", "CONTRIBUTING.md", ".github/pull_request_template.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert set(re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)\b", text)) <= TARGETS, page


def test_the_librarys_seams_are_where_the_page_says():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## The library's seams")[2]
    lines = [
        re.findall(r"(?:\b|(?<= )\.)[a-zA-Z_][\w.]*(?=[(\[])", line.partition(" #")[0]) for line in text.splitlines()
    ]
    named = [line for line in lines if line]
    assert len(named) > 8
    for first, *others in named:
        place, _, name = first.rpartition(".")
        module = importlib.import_module(place)
        found = getattr(module, name)
        for other in others:
            owner = found if hasattr(found, other.removeprefix(".")) else module
            assert callable(getattr(owner, other.removeprefix("."))), f"{first}, {other}"


def test_the_version_is_the_same_wherever_it_is_said():
    assert f"version: {hymunet.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert hymunet.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    told = subprocess.run(["hymunet", "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.split() == ["hymunet", hymunet.__version__]


def test_the_development_container_is_described():
    content = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert "make setup" in content["postCreateCommand"]
