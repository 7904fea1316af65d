"""The contract: a version makes the promised masks in the environment that it declares, or is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hymunet.inference import Segmenter
from hymunet.registry import contract, evidence, seal, single
from hymunet.registry.decide import _run
from hymunet.registry.gate import Missing
from tests.support.scored_versions import POLICY, TAGS, write_version

ASKED = POLICY.model_copy(update={"contract": True})


@pytest.fixture(scope="module")
def promised(saved, evaluated_project, tmp_path_factory):
    folder = Path(shutil.copytree(saved, tmp_path_factory.mktemp("contract") / "version"))
    contract.write(Segmenter.load(evaluated_project / "artifacts/model", device="cpu"), folder)
    return folder


def edited(name, before, after):
    def edit(folder):
        path = folder / name
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))

    return edit


def other_masks(folder):
    tensors = load_file(folder / contract.PROMISE)
    tensors["several.masks"] = 1 - tensors["several.masks"]
    save_file(tensors, folder / contract.PROMISE)


BREACHES = {  # what happens to the version -> what is said of it
    "none": (lambda folder: None, []),
    "other masks than the trained model's": (other_masks, ["several: 100.00% of the pixels are others than promised"]),
    "another type, and no check of the pixels": (
        lambda folder: (
            edited("serve.py", "np.stack(masks)", "np.stack(masks).astype(np.int64)")(folder),
            edited("code/hymunet/registry/sent.py", "if not ((array > 2)", "if False and not ((array > 2)")(folder),
        ),
        ["one: masks are int64", "several: masks are int64", "tall: masks are int64", "fractions cut off to whole"],
    ),
    "code that does not run": (
        edited("serve.py", "import mlflow\n", "import mlflow\nimport nothing_of_this_name\n"),
        ["it does not load: MlflowException: Failed to import code model"],
    ),
    "a process that ends": (
        edited("serve.py", "import mlflow\n", "import os\nos._exit(9)\nimport mlflow\n"),
        ["ended with 9: no word"],
    ),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_each_breach_is_named(promised, tmp_path, breach):
    happens, expected = BREACHES[breach]
    folder = Path(shutil.copytree(promised, tmp_path / "version"))
    happens(folder)
    found = contract.broken(folder, tolerance=0)
    assert len(found) == len(expected)
    assert all(words in said for words, said in zip(expected, found, strict=True)), found
    assert not list(folder.rglob("__pycache__")), "running it leaves its files as they are"


def test_requirements_that_are_not_met_here_are_installed_or_the_gate_says_why(promised, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(promised, tmp_path / "version"))
    edited("requirements.txt", "simplejpeg==", "simplejpeg==0.0.")(folder)
    for name in ("UV_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(contract.NoEnvironment, match=r"simplejpeg==0\.0\..*here .*requirements cannot be installed"):
        contract.broken(folder)


def sealed(folder, happens=lambda folder: None, signed=""):
    """The evidence of a version whose files were sealed before something happened to them."""
    (folder / seal.MANIFEST).write_bytes(seal.manifest(folder))
    happens(folder)
    return replace(evidence.read("2", TAGS, folder), seal=replace(seal.examined(folder, {}), signer=signed))


NOT_RUN = {  # what happens to the files, who signed, whose signature counts -> why the code is not run
    "a changed file": (lambda folder: (folder / "MLmodel").write_text("x"), "", [], "MLmodel was changed"),
    "a file more": (lambda folder: (folder / "sitecustomize.py").write_text(""), "", [], "sitecustomize.py was added"),
    "signed by nobody": (lambda folder: None, "", ["a"], "unsigned"),
    "signed by somebody else": (lambda folder: None, "b", ["a"], "by b"),
    "no promise": (lambda folder: None, "", [], "has no contract.safetensors; register it again"),
}


@pytest.mark.parametrize("case", NOT_RUN)
def test_code_is_not_run_unless_all_files_are_those_registered_and_signed(case, tmp_path):
    happens, signer, signers, expected = NOT_RUN[case]
    write_version(tmp_path, np.full(30, 0.9))
    (tmp_path / "MLmodel").write_text("of MLflow")
    policy = ASKED.model_copy(update={"signed_by": signers})
    version = _run(sealed(tmp_path, happens, signer), tmp_path, policy)
    with pytest.raises(Missing, match=expected):
        single.contract(version, True)


def test_without_a_manifest_nothing_is_run(tmp_path):
    write_version(tmp_path, np.full(30, 0.9))
    with pytest.raises(Missing, match="there is no manifest of its files"):
        single.contract(_run(evidence.read("2", TAGS, tmp_path), tmp_path, ASKED), True)
