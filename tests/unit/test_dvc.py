"""dvc.yaml against the code: dependencies are what a step imports, parameters what it asks for, staleness follows."""

import ast
import contextlib
from pathlib import Path
from typing import get_args

import pytest
from ruamel.yaml import YAML

from hymunet import closure, params
from hymunet.models import catalogue

ROOT = Path(__file__).resolve().parents[2]
STAGES = params.read_yaml(ROOT / "dvc.yaml")["stages"]
# Parsing of options and of params.yaml, whose values are tracked instead; how a file reaches the disk, and what is said
# of one that does not; how many work; how bytes travel whose hash is known beforehand;
# how long a server may say nothing; how a list is said.
PLUMBING = {
    "components/__init__.py",
    "components/cli.py",
    "hymunet/__init__.py",
    "hymunet/addresses.py",
    "hymunet/atomic.py",
    "hymunet/commit.py",
    "hymunet/control_groups.py",
    "hymunet/data/acquire/published.py",
    "hymunet/data/acquire/remote.py",
    "hymunet/data/acquire/sections.py",
    "hymunet/data/acquire/transfer.py",
    "hymunet/mlflow_store/__init__.py",
    "hymunet/mlflow_store/account.py",
    "hymunet/mlflow_store/address.py",
    "hymunet/mlflow_store/answer.py",
    "hymunet/mlflow_store/database.py",
    "hymunet/mlflow_store/environment.py",
    "hymunet/mlflow_store/errors.py",
    "hymunet/mlflow_store/experiment.py",
    "hymunet/mlflow_store/patience.py",
    "hymunet/mlflow_store/relocation.py",
    "hymunet/mlflow_store/store.py",
    "hymunet/overrides.py",
    "hymunet/params.py",
    "hymunet/places.py",
    "hymunet/processors.py",
    "hymunet/section.py",
    "hymunet/shortlist.py",
    "hymunet/silence.py",
}
TABLE = "hymunet/data/acquire/sources.py"  # imports every source's module; of them, the chosen one counts
SOURCES = get_args(params.Data.model_fields["source"].annotation)
# Decides nothing in a training, so .dvcignore keeps it out of the training's dependencies.
IGNORED = "hymunet/training/tracking"
CASES = [(stage, model) for stage in STAGES for model in catalogue.names()]


def import_closure(stage: str, model: str) -> set[str]:
    """What a stage's program imports when params.yaml names this model."""
    program = Path(f"components/{stage}/__main__.py")
    imported = set(closure.files(program, without=PLUMBING))
    if "hymunet/models/catalogue.py" in imported:  # it imports the model by its name
        imported |= set(closure.files(program, catalogue.module(model), without=PLUMBING))
    return {file for file in imported - {TABLE} if not covers(IGNORED, file)}


def covers(dependency: str, file: str) -> bool:
    """A dependency on the chosen source's module covers each source's in turn."""
    possible = [resolved(dependency, source=source) for source in SOURCES]
    return any(file == path or file.startswith(f"{path}/") for path in possible)


def resolved(dependency: str, model: str = "${model.name}", source: str = "${data.source}") -> str:
    return dependency.replace("${model.name}", model).replace("${data.source}", source)


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


def test_telling_of_a_training_is_no_dependency_and_the_rest_of_it_is(finished_pipeline):
    """And nothing that computes is told to be ignored."""
    from dvc.repo import Repo

    training = set(closure.files("hymunet.training.learner")) | {"hymunet/training/trainer.py"}
    assert not any(covers(IGNORED, file) for file in training)
    for name, stale in ((f"{IGNORED}/journal.py", set()), ("hymunet/training/trainer.py", {"train"})):
        file = finished_pipeline / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("edited")
        try:
            with Repo() as repo:
                assert changed(repo) == stale, name
        finally:
            file.unlink()


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
    listed = {key.partition(".")[0] for key in STAGES[stage]["params"]}
    assert sections_asked_for(ROOT / f"components/{stage}/__main__.py") == listed


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_has_a_section_and_a_module_of_its_name(source):
    assert source in paper()["data"]
    assert (ROOT / f"hymunet/data/acquire/{source}.py").is_file()


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
        return [different(value[0]), *value[1:]] if value else ["x"]
    return f"{value}x"


@pytest.fixture(scope="module")
def finished_pipeline(tmp_path_factory):
    """The real dvc.yaml over placeholder files, with every stage up to date."""
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("pipeline")
    for name in ("dvc.yaml", ".dvcignore"):
        (folder / name).write_text((ROOT / name).read_text())
    (folder / "params.yaml").write_text((ROOT / "profiles/paper.yaml").read_text())
    outs = {out if isinstance(out, str) else next(iter(out)) for stage in STAGES.values() for out in stage["outs"]}
    for name in outs:
        (folder / name).mkdir(parents=True)
        (folder / name / "content").write_text(name)
    for name in dependencies() - outs:
        file = folder / name if Path(name).suffix else folder / name / "content"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    with contextlib.chdir(folder):
        with Repo.init(no_scm=True) as repo:
            repo.commit(force=True)
        yield folder


def dependencies() -> set[str]:
    """Every path that dvc.yaml may name, whichever source is chosen."""
    named = {dep for stage in STAGES.values() for dep in stage["deps"]}
    place = paper()["data"]["folder"]["path"]
    return {
        resolved(dep, "hymunet", source).replace("${data.folder.path}", place) for dep in named for source in SOURCES
    }


def leaves(content, key=""):
    """Every parameter with its value, by its full name."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{key}{name}.")
        else:
            yield f"{key}{name}", value


def stale(folder, source="isic2018", **changes):
    """The stages that DVC finds changed with these parameters, not those that only follow from one upstream."""
    from dvc.repo import Repo

    content = paper()
    content["data"]["source"] = source
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = content
        for part in sections:
            section = section[part]
        section[name] = value
    YAML().dump(content, folder / "params.yaml")
    with Repo() as repo:
        return changed(repo)


def changed(repo):
    """Without the stage that runs in any case, where nothing that it reads has changed."""
    return {stage for stage, reasons in repo.status().items() if reasons != ["always changed"]}


@pytest.mark.parametrize(
    ("source", "every"), [*((name, False) for name in SOURCES), pytest.param(SOURCES[0], True, marks=pytest.mark.slow)]
)
def test_each_parameter_makes_exactly_the_stages_stale_that_read_it(finished_pipeline, source, every):
    """A source's own parameters are read when it is the chosen one; the model's name, where its file is named.

    every: also those beside another that the same entries of dvc.yaml cover.
    """
    from dvc.repo import Repo

    named = {name for name, stage in STAGES.items() if any("${model.name}" in dep for dep in stage["deps"])}
    assert named == {"train", "evaluate", "register"}
    with Repo() as repo:
        stale(finished_pipeline, source)
        repo.commit(force=True)
    assert stale(finished_pipeline, source) == set()
    listed = {key for stage in STAGES.values() for key in stage["params"]}
    assert {key.partition(".")[0] for key in listed} == set(paper())
    met = set()
    for key, value in leaves(paper()):
        if key == "data.source" or (source != SOURCES[0] and not key.startswith("data.")):
            continue
        covers = {
            (name, read)
            for name, stage in STAGES.items()
            for read in stage["params"]
            if f"{key}.".startswith(f"{resolved(read, source=source)}.")
        }
        alike = (frozenset(covers), key.startswith("data."), key in ("model.name", "data.folder.path"))
        if alike in met and not every:
            continue
        met.add(alike)
        readers = {name for name, _ in covers}
        readers |= named if key == "model.name" else set()
        if key == "data.folder.path":  # a dependency for every source: it is there in any case
            (finished_pipeline / f"{value}x").mkdir(exist_ok=True)
            readers = {"download"}
        assert stale(finished_pipeline, source, **{key: different(value)}) == readers, key


@pytest.mark.parametrize(
    ("source", "file", "expected"),
    [
        ("isic2018", "hymunet/data/acquire/isic2018.py", {"download", "prepare"}),
        ("isic2018", "hymunet/data/acquire/kvasir_seg.py", set()),
        ("isic2018", "hymunet/data/acquire/remote.py", set()),
        ("isic2018", "hymunet/data/acquire/transfer.py", set()),
        ("synthetic", "hymunet/data/acquire/isic2018.py", set()),
        ("folder", "components/download/example/images/another.png", {"download"}),
        ("isic2018", "hymunet/data/prepare/csrc/png.cpp", {"prepare", "split"}),
    ],
)
def test_a_file_makes_exactly_the_stages_stale_that_depend_on_it(finished_pipeline, source, file, expected):
    from dvc.repo import Repo

    path = finished_pipeline / file
    before = path.read_bytes() if path.exists() else None
    with Repo() as repo:
        stale(finished_pipeline, source)
        repo.commit(force=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# changed")
    try:
        found = stale(finished_pipeline, source)
    finally:
        path.unlink() if before is None else path.write_bytes(before)
    assert found >= expected
    assert found - expected <= {"evaluate", "register"}, "stages that read images as prepare does"


def paper():
    return params.read_yaml(ROOT / "profiles/paper.yaml")
