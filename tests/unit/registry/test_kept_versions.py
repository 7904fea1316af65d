"""A version keeps the files that it was registered with, whatever is registered of the same training later."""

import json
import shutil
import uuid
from pathlib import Path

import pytest

from hymunet.registry.register import register
from hymunet.registry.seal import examined
from hymunet.registry.sign import copy


@pytest.fixture
def registered(evaluated_project, registry, tmp_path):
    """Registers this training's model under a name, as often as it is called; returns the version."""
    root = Path(shutil.copytree(evaluated_project, tmp_path / "project"))
    model = root / "artifacts/model/model.json"
    model.write_text(json.dumps({**json.loads(model.read_text()), "run_key": uuid.uuid4().hex}))
    for extra in ("notes.txt", ".ipynb_checkpoints/notes.txt"):
        (root / "reports/evaluation" / extra).parent.mkdir(exist_ok=True)
        (root / "reports/evaluation" / extra).write_text("mine")

    def registered(name):
        places = ("artifacts/model", "reports/evaluation", "data/split/split.json", "reports/registration")
        found = register(name, *(root / place for place in places), root).statement
        return registry.get_model_version(name, str(found.version))

    registered.evaluation = root / "reports/evaluation"
    return registered


def problems(registry, version, tmp_path):
    import mlflow

    source = registry.get_model_version_download_uri(version.name, version.version)
    folder = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(tmp_path / uuid.uuid4().hex)))
    return examined(folder, version.tags).problems


def under_another_name(registry, registered, first):
    return [first, registered(f"{first.name}-other")]


def again_after_it_was_copied_and_deleted(registry, registered, first):
    copied, there = f"{first.name}-copy", copy(first.name, f"{first.name}-copy", str(first.version))[1]
    registry.delete_model_version(first.name, first.version)
    return [registry.get_model_version(copied, there), registered(first.name)]


def again_without_a_file_that_was_not_meant(registry, registered, first):
    registry.delete_model_version(first.name, first.version)
    shutil.rmtree(registered.evaluation / ".ipynb_checkpoints")
    (registered.evaluation / "notes.txt").unlink()
    return [registered(first.name)]


@pytest.mark.parametrize(
    "then",
    [
        under_another_name,
        pytest.param(again_after_it_was_copied_and_deleted, marks=pytest.mark.slow),  # a registration takes ten seconds
        pytest.param(again_without_a_file_that_was_not_meant, marks=pytest.mark.slow),
    ],
    ids=lambda then: then.__name__,
)
def test_what_is_registered_later_leaves_a_version_s_files_alone(registry, registered, tmp_path, then):
    """They lay in one folder of the run: the later card and manifest took the place of the earlier ones."""
    for version in then(registry, registered, registered(f"kept-{then.__name__[:9]}")):
        assert problems(registry, version, tmp_path) == (), f"{version.name} {version.version}"
