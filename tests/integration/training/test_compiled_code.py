"""Machines that share nothing but a bucket: the second one compiles nothing, and trains the same."""

from pathlib import Path

import pytest

from hymunet.training.compiled_code import FOLDERS
from tests.integration.training.torchrun import start
from tests.support.training_data import drawn, write_inputs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
KEY = "0123456789abcdef0123456789abcdef"
SETTINGS = {"name": "unet", "size": [4, 8], "precision": "float32", "sync_batch_norm": False, "epochs": 2}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs") / "inputs", *drawn(30, 32), validation=6, test=4)


@pytest.fixture(autouse=True)
def no_cache_of_the_tests(monkeypatch):
    for variable in FOLDERS.values():
        monkeypatch.delenv(variable, raising=False)


def train(folder: Path, inputs, environment: dict[str, str], **changes) -> tuple[int, str, str]:
    own = {"XDG_CACHE_HOME": str(folder / "cache"), **environment}
    process = start(folder, inputs, environment=own, **{"ranks": 1, "compile": "required", **SETTINGS, **changes})
    out, error = process.communicate(timeout=600)
    return process.returncode, out, error


def compiled(folder: Path) -> set[str]:
    return {path.name for path in (folder / "cache").rglob("*.so")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({}, "cache/hymunet/inductor"),
        ({"HYMUNET_COMPILE_CACHE": "{folder}/kept"}, "kept/inductor"),
        ({"HYMUNET_COMPILE_CACHE": "{folder}/kept", "TORCHINDUCTOR_CACHE_DIR": "{folder}/own"}, "own"),
    ],
    ids=["the user's cache", "a folder that is named", "torch's own variable"],
)
def test_it_is_kept_in_the_folder_that_is_named(inputs, tmp_path, environment, folder):
    own = {name: value.format(folder=tmp_path) for name, value in environment.items()}
    code, _, error = train(tmp_path, inputs, own)
    assert code == 0, error
    assert {path.relative_to(tmp_path / folder) for path in tmp_path.rglob("*.so")}, "no kernel was kept"
    assert all(path.is_relative_to(tmp_path / folder) for path in tmp_path.rglob("*.so"))


@pytest.mark.slow
def test_the_second_machine_compiles_nothing(inputs, tmp_path, s3_server):
    """Whatever its epochs and its seed are."""
    bucket = s3_server.create_bucket("compiled-code")
    store = {**s3_server.env, "HYMUNET_COMPILE_CACHE": f"s3://{bucket}/team/compiled", "HYMUNET_COMPILE_CACHE_KEY": KEY}
    code, out, error = train(tmp_path / "first", inputs, store)
    assert code == 0, error
    assert f"train: compiled code kept in s3://{bucket}/team/compiled/" in out
    made = compiled(tmp_path / "first")
    assert made
    code, out, error = train(tmp_path / "second", inputs, store, epochs=3, seed=1)
    assert code == 0, error
    assert f"train: compiled code of an earlier start brought from s3://{bucket}/team/compiled/" in out
    assert "kept in" not in out
    assert compiled(tmp_path / "second") == made


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        pytest.param(
            {},
            "HYMUNET_COMPILE_CACHE_KEY, which is not set; set it from a secret to at least 32 characters",
            marks=pytest.mark.slow,
        ),
        ({"HYMUNET_COMPILE_CACHE_KEY": "short"}, "HYMUNET_COMPILE_CACHE_KEY, which has 5 characters"),
        ({"HYMUNET_COMPILE_CACHE_KEY": KEY}, "s3://no-such-bucket-here/code: compiled code cannot be written here"),
    ],
    ids=["no key", "short key", "no bucket"],
)
def test_a_store_that_cannot_be_used_is_one_line_before_anything_is_computed(
    inputs, tmp_path, s3_server, environment, message
):
    store = {**s3_server.env, "HYMUNET_COMPILE_CACHE": "s3://no-such-bucket-here/code", **environment}
    code, out, error = train(tmp_path, inputs, store)
    assert code == 1
    assert message in error
    assert KEY not in error
    assert "Traceback" not in error
    assert "epoch" not in out


def test_where_nothing_is_compiled_the_store_is_not_asked(inputs, tmp_path):
    code, _, error = train(tmp_path, inputs, {"HYMUNET_COMPILE_CACHE": "s3://nowhere/code"}, compile="auto")
    assert code == 0, error
