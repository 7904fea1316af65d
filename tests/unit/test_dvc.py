"""dvc.yaml against the code: dependencies are what a step imports, parameters what it asks for, staleness follows."""

import ast
import contextlib
import copy
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from hymunet import closure, params
from hymunet.models import catalogue

ROOT = Path(__file__).resolve().parents[2]
STAGES = params.read_yaml(ROOT / "dvc.yaml")["stages"]
# Parsing of options and of params.yaml, whose values are tracked instead; how a file reaches the disk; how many work.
PLUMBING = {
    "components/__init__.py",
    "components/cli.py",
    "hymunet/__init__.py",
    "hymunet/atomic.py",
    "hymunet/params.py",
    "hymunet/processors.py",
    "hymunet/section.py",
}
CASES = [(stage, model) for stage in STAGES for model in catalogue.names()]


def import_closure(stage: str, model: str) -> set[str]:
    """What a stage's program imports when params.yaml names this model."""
    program = Path(f"components/{stage}/__main__.py")
    imported = set(closure.files(program, without=PLUMBING))
    if "hymunet/models/catalogue.py" in imported:  # it imports the model by its name
        imported |= set(closure.files(program, catalogue.module(model), without=PLUMBING))
    return imported


def covers(dependency: str, file: str) -> bool:
    return file == dependency or file.startswith(f"{dependency}/")


def resolved(dependency: str, model: str) -> str:
    return dependency.replace("${model.name}", model)


def code_dependencies(stage: str, model: str) -> list[str]:
    dependencies = [resolved(dep, model) for dep in STAGES[stage]["deps"]]
    return [dep for dep in dependencies if dep.startswith(("components/", "hymunet/"))]


@pytest.mark.parametrize(("stage", "model"), CASES)
def test_a_stage_depends_on_every_module_that_its_program_imports(stage, model):
    dependencies = code_dependencies(stage, model)
    missing = {file for file in import_closure(stage, model) if not any(covers(dep, file) for dep in dependencies)}
    assert missing == set(), "imported, but no dependency of the stage"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_code_that_it_never_imports(stage):
    """With some model: not all of them have a scan, or every shared layer."""
    idle = set(STAGES[stage]["deps"])
    for model in catalogue.names():
        imported = import_closure(stage, model)
        used = {dep for dep in idle if any(covers(resolved(dep, model), file) for file in imported)}
        idle -= used | {dep for dep in idle if not dep.startswith(("components/", "hymunet/"))}
    assert idle == set(), "a dependency that the program never imports"


@pytest.mark.parametrize("stage", ["train", "evaluate", "register"])
def test_no_model_is_made_stale_by_another(stage):
    """A stage's files that only some models have are those of the model that is chosen."""
    files = {model: import_closure(stage, model) for model in catalogue.names()}
    for model, own in files.items():
        names = files.keys() - {model}
        others = {f"hymunet/models/{place}{name}.py" for name in names for place in ("", "specs/")}
        assert f"hymunet/models/specs/{model}.py" in own
        assert own & others == set()
        assert not any(covers(dep, file) for dep in code_dependencies(stage, model) for file in others)


def sections_asked_for(program: Path) -> set[str]:
    """The section names in the program's one call of params.load."""
    calls = [
        node
        for node in ast.walk(ast.parse(program.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("params.load", "load_params")
    ]
    assert len(calls) == 1, f"{program}: expected one call of params.load, found {len(calls)}"
    return {argument.value for argument in calls[0].args if isinstance(argument, ast.Constant)}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_sections_that_its_program_reads(stage):
    assert sections_asked_for(ROOT / f"components/{stage}/__main__.py") == set(STAGES[stage]["params"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_program_is_short(stage):
    assert len((ROOT / f"components/{stage}/__main__.py").read_text().splitlines()) < 80


def different(value):
    """Another value of the same kind; validity does not matter to staleness."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [different(value[0]), *value[1:]]
    return f"{value}x"


@pytest.fixture(scope="module")
def finished_pipeline(tmp_path_factory):
    """The real dvc.yaml over placeholder files, with every stage up to date."""
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (folder / "params.yaml").write_text((ROOT / "profiles/paper.yaml").read_text())
    outs = {out if isinstance(out, str) else next(iter(out)) for stage in STAGES.values() for out in stage["outs"]}
    for name in outs:
        (folder / name).mkdir(parents=True)
        (folder / name / "content").write_text(name)
    for name in {dep for stage in STAGES.values() for dep in stage["deps"]} - outs:
        name = resolved(name, "hymunet")
        file = folder / name if Path(name).suffix else folder / name / "content"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    with contextlib.chdir(folder):
        with Repo.init(no_scm=True) as repo:
            repo.commit(force=True)
        yield folder


def test_each_parameter_makes_exactly_the_stages_stale_that_read_it(finished_pipeline):
    from dvc.repo import Repo

    readers = {section: {name for name, stage in STAGES.items() if section in stage["params"]} for section in paper()}
    assert set(readers) == {section for stage in STAGES.values() for section in stage["params"]}
    named = {name for name, stage in STAGES.items() if any("${model.name}" in dep for dep in stage["deps"])}
    assert named == {"train", "evaluate", "register"}
    with Repo() as repo:
        assert repo.status() == {}
    for section, values in paper().items():
        for key, value in values.items():
            changed = copy.deepcopy(paper())
            changed[section][key] = different(value)
            YAML().dump(changed, finished_pipeline / "params.yaml")
            with Repo() as repo:
                expected = readers[section] | (named if (section, key) == ("model", "name") else set())
                assert set(repo.status()) == expected, f"{section}.{key}"


def paper():
    return params.read_yaml(ROOT / "profiles/paper.yaml")
