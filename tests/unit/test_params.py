"""params.yaml: what is accepted, and that each mistake is one line naming key, value and remedy."""

import copy
from pathlib import Path

import pytest

from hymunet import params
from hymunet.addresses import without_secrets

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
        ("data.folder.path", "", "data.folder.path = '': string should have at least 1 character"),
        ("data.synthetic.sed", 1, "unknown key data.synthetic.sed = 1; did you mean seed?"),
        ("data.kvasir_seg.sums", "0" * 64, "sums names the archives of a mirror, and mirror is null"),
        ("data.isic2018.sums", "x", "data.isic2018.sums = 'x': string should match pattern"),
        ("data.mirror", None, "data.mirror is now data.isic2018.mirror or data.kvasir_seg.mirror"),
        ("data.official_test", True, "data.official_test is now data.isic2018.official_test"),
        ("data.folder", "/mnt/mine", "data.folder is now data.folder.path"),
        ("data.synthetic_images", 240, "data.synthetic_images is now data.synthetic.images"),
        ("data.synthetic_size", 192, "data.synthetic_size is now data.synthetic.size"),
        ("data.synthetic_seed", 1, "data.synthetic_seed is now data.synthetic.seed"),
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


AT = "@"  # apart, for the project is searched for addresses that hold a password
SECRETS = [
    f"https://alice:s3cret{AT}host/isic",
    f"https://alice:s3c/r{AT}et{AT}host:8080/isic",
    f"http://s3cret{AT}host/isic",
    f"s3://AKIA123:s3cret{AT}bucket/isic",
    "https://host/isic?sig=s3cret",
    "https://host/isic?s3cret",
]


@pytest.mark.parametrize("address", SECRETS)
@pytest.mark.parametrize("key", ["data.isic2018.mirror", "data.kvasir_seg.mirror", "data.folder.path"])
def test_secrets_have_no_place_in_parameters_and_are_not_repeated(content, key, address):
    with pytest.raises(
        ValueError, match=f"{key} holds a user, a password or a query.*netrc.*AWS_ACCESS_KEY_ID"
    ) as error:
        params.check(change(content, key, address))
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        f"data.isic2018.mirror=https://alice:s3cret{AT}host/isic",
        f"data.nowhere.mirror=https://alice:s3cret{AT}host/isic",
        f"https://alice:s3cret{AT}host/isic",
        f"data.isic2018.mirror=[https://alice:s3cret{AT}host/isic",
    ],
)
def test_a_change_that_is_refused_is_shown_without_its_secrets(change):
    with pytest.raises(ValueError, match="host/isic") as error:
        params.load(ROOT / "params.yaml", "data", changes=[change])
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "address",
    ["https://host/a/b", "http://host:8080/x@y", "s3://bucket/prefix", "/mnt/me@home/what?", "C:/isic", "../isic"],
)
def test_an_address_without_secrets_is_taken(content, address):
    assert params.check(change(content, "data.isic2018.mirror", address)).data.isic2018.mirror == address


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"GET https://alice:s3cret{AT}host/x failed", "GET https://host/x failed"),
        (f"https://alice:s3/cr{AT}et{AT}host/x", "https://host/x"),
        ("s3://key@bucket/x", "s3://bucket/x"),
        ("url: /x.zip?X-Amz-Signature=s3cret (Caused by", "url: /x.zip?… (Caused by"),
        ("'https://host:80/x?a=1&sig=s3cret'", "'https://host:80/x?…'"),
        ("http://host:80/a@b is plain", "http://host:80/a@b is plain"),
        (f"postgresql://u:p{AT}h/d and redis://:p{AT}h/0", "postgresql://h/d and redis://h/0"),
        ("which one? a=b", "which one? a=b"),
    ],
)
def test_secrets_are_left_out_of_what_is_shown(text, shown):
    assert without_secrets(text) == shown


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
