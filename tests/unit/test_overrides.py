"""`--set section.key=value`: read as the file is, checked as the file is, and taken by every program."""

import importlib
from operator import attrgetter
from pathlib import Path

import pytest

from components import cli
from hymunet import params
from hymunet.overrides import overridden

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "profiles/paper.yaml"
STEPS = sorted(path.parent.name for path in ROOT.glob("components/*/__main__.py"))


@pytest.mark.parametrize(
    ("text", "section", "key", "value"),
    [
        ("train.epochs=3", "train", "epochs", 3),
        ("train.learning_rate=2e-3", "train", "learning_rate", 0.002),
        ("train.sync_batch_norm=true", "train", "sync_batch_norm", True),
        ("train.betas=[0.8, 0.9]", "train", "betas", [0.8, 0.9]),
        ("data.isic2018.mirror=s3://bucket/a=b", "data", "isic2018.mirror", "s3://bucket/a=b"),
        ("data.synthetic.images=20", "data", "synthetic.images", 20),
        ("split.protocol=random", "split", "protocol", "random"),
    ],
)
def test_a_value_is_read_as_in_the_file(text: str, section: str, key: str, value: object) -> None:
    loaded = params.load(PAPER, section, changes=[text])
    assert attrgetter(f"{section}.{key}")(loaded) == value
    assert attrgetter(f"{section}.{key}")(params.load(PAPER, section)) != value


def test_the_last_of_several_wins_and_the_content_given_is_left_alone() -> None:
    content = params.read_yaml(PAPER)
    assert overridden(content, ["train.epochs=3", "train.epochs=4"])["train"]["epochs"] == 4
    assert content == params.read_yaml(PAPER)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.epochs", "'train.epochs': expected KEY=VALUE"),
        ("=3", "'=3': expected KEY=VALUE"),
        ("epochs=3", "'epochs=3': expected SECTION.KEY=VALUE"),
        ("trian.epochs=3", "'trian.epochs=3': expected SECTION.KEY=VALUE with a section"),
        ("train.epochs.more=3", "expected SECTION.KEY=VALUE"),
        ("train.=3", "expected SECTION.KEY=VALUE"),
        ("train.betas=[0.8", "the value is not valid YAML"),
        ("train.epoch=3", "unknown key train.epoch = 3; did you mean epochs?"),
        ("train.epochs=0", "train.epochs = 0: input should be greater than or equal to 1"),
        ("train.epochs=many", "train.epochs = 'many': input should be a valid integer"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        params.load(PAPER, "train", changes=[text])
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("step", STEPS)
def test_every_program_takes_it(step: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Far enough to be refused for the value that was set, and not for the inputs that are not there."""
    program = importlib.import_module(f"components.{step}.__main__")
    arguments = ["--params", str(PAPER), "--set", "train.epochs=0", "-S", "split.seed=1"]
    assert cli.guarded(step, lambda: program.main(arguments)) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"{step}: {PAPER} with train.epochs=0 split.seed=1: train.epochs = 0: ")
