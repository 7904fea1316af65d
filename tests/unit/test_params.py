"""params.yaml: what is accepted, and that each mistake is one line naming key, value and remedy."""

import copy
from pathlib import Path

import pytest

from hymunet import params

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def content():
    return params.read_yaml(ROOT / "profiles/paper.yaml")


def change(content, key, value):
    changed = copy.deepcopy(content)
    *path, last = key.split(".")
    section = changed
    for part in path:
        section = section[part]
    section[last] = value
    return changed


def test_the_papers_protocol(content):
    paper = params.check(content)
    assert paper.data.source == "isic2018"
    assert paper.prepare.image_size == 256
    assert (paper.train.batch_size, paper.train.epochs) == (24, 200)
    assert paper.train.betas == [0.9, 0.999]


def test_the_demo_profile_is_valid_over_the_paper(content):
    for section, values in params.read_yaml(ROOT / "profiles/demo.yaml").items():
        content[section] |= values
    assert params.check(content).data.source == "synthetic"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train.epochs", 0, "train.epochs = 0: input should be greater than or equal to 1"),
        ("train.epochs", "3", "train.epochs = '3': input should be a valid integer"),
        ("train.epochs", True, "train.epochs = True: input should be a valid integer"),
        ("train.epoch", 3, "unknown key train.epoch = 3; did you mean epochs?"),
        ("validate.min_image", 3, "unknown key validate.min_image = 3; did you mean min_images?"),
        ("trian", {}, "unknown key trian = {}; did you mean train?"),
        ("train.learning_rate", float("nan"), "train.learning_rate = nan: input should be a finite number"),
        ("train.min_learning_rate", 1.0, "train.min_learning_rate 1.0 must not exceed train.learning_rate 0.001"),
        ("train.accumulate", 5, "train.accumulate 5 must divide train.batch_size 24"),
        ("train.loss_weights", [0.0, 0.0, 0.0], "train.loss_weights must not all be 0"),
        (
            "prepare.image_size",
            250,
            "prepare.image_size = 250: model hymunet takes multiples of 16, such as 240",
        ),
        ("model.name", "unte", "model.name = 'unte': no such model; did you mean unet?"),
        ("model.name", ["unet"], "model.name = ['unet']: expected one of "),
        ("model.size", "tiny", "model.size = 'tiny': input should be 'small', 'base' or 'large'"),
        ("model.size", [8, 8, 8], "model.size = [8, 8, 8]: list should have at least 4 items"),
        ("model", {"name": "unet", "drop_path": 0.1}, "unknown key model.drop_path = 0.1; allowed with name unet: "),
        ("model", {"size": "small"}, "model.name is missing; it is one of "),
        ("model", "unet", "model = 'unet': input should be a valid dictionary"),
        ("data.source", "isic", "data.source = 'isic': input should be 'isic2018', 'kvasir_seg', 'folder' or"),
        ("data.source", "folder", "data.folder must name a directory"),
        ("split.fractions", [0.5, 0.5, 0.5], "split.fractions must be three positive numbers with sum 1"),
        ("evaluate.threshold", 1.5, "evaluate.threshold = 1.5: input should be less than 1"),
        ("register.model_name", "a b", "register.model_name = 'a b': string should match pattern"),
    ],
)
def test_a_mistake_is_one_line(content, key, value, expected):
    with pytest.raises(ValueError, match="^params.yaml: ") as error:
        params.check(change(content, key, value))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_key_is_named(content):
    del content["train"]["epochs"]
    with pytest.raises(ValueError, match=r"train\.epochs is missing"):
        params.check(content)


@pytest.mark.parametrize("text", ["train: [", "- a\n- b", "", "train: 3"])
def test_a_file_that_is_no_params_file(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"params\.yaml: ") as error:
        params.load(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="run from the project's root"):
        params.load(tmp_path / "absent.yaml")


def test_scientific_notation_is_a_number(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(
        (ROOT / "profiles/paper.yaml").read_text().replace("learning_rate: 1.0e-3", "learning_rate: 2e-3", 1)
    )
    assert params.load(path, "train").train.learning_rate == 0.002


def test_a_program_sees_only_the_sections_it_asked_for():
    sections = params.load(ROOT / "profiles/paper.yaml", "validate", "register")
    assert sections.validate.min_images == 100
    assert sections.register.model_name == "hymunet"
    with pytest.raises(AttributeError):
        _ = sections.train
