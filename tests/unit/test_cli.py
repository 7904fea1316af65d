"""The command: quick to answer, one line for what went wrong, files whole and at their own size."""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from components import cli as step_cli
from hymunet import cli, params, profiles
from hymunet.models import catalogue
from hymunet.registry.client import Unavailable
from tests.support.training_data import drawn, write_inputs, write_params

ROOT = Path(__file__).resolve().parents[1].parent
STEPS = sorted(path.parent.name for path in ROOT.glob("components/*/__main__.py"))
PROGRAMS = ["hymunet.cli", *(f"components.{step}" for step in STEPS)]
HEAVY = {
    "torch",
    "mlflow",
    "numpy",
    "cv2",
    "pandas",
    "matplotlib",
    "great_expectations",
    "albumentations",
    "kfp",
    "pydantic",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_is_quick_and_imports_nothing_heavy(program):
    command = [sys.executable, "-X", "importtime", "-m", program, "--help"]
    before = os.times()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    after = os.times()
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported, "the list of imports was read"
    assert imported & HEAVY == set()
    assert "--params" in done.stdout or "VERB" in done.stdout
    # Processor time, since other work on the machine slows the clock on the wall.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.5


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the project's profiles and params.yaml, as the working directory."""
    (tmp_path / "profiles").mkdir()
    for path in ROOT.glob("profiles/*.yaml"):
        (tmp_path / "profiles" / path.name).write_text(path.read_text())
    (tmp_path / "params.yaml").write_text((ROOT / "profiles/paper.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(capsys, *arguments):
    """The one line on standard error of a command that must fail."""
    assert cli.main([str(argument) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_a_profile_changes_its_values_and_nothing_else(project):
    before = (project / "params.yaml").read_text()
    assert cli.main(["profile", "demo"]) == 0
    text = (project / "params.yaml").read_text()
    loaded, changes = params.read_yaml(project / "params.yaml"), params.read_yaml(project / "profiles/demo.yaml")
    expected = params.read_yaml(project / "profiles/paper.yaml")
    for section, values in changes.items():
        expected[section] |= values
    assert loaded == expected
    comments = [line.partition("#")[2] for line in text.splitlines()]
    assert comments == [line.partition("#")[2] for line in before.splitlines()], "every comment is where it was"
    assert "mirror: null" in text
    assert cli.main(["profile", "paper"]) == 0
    assert (project / "params.yaml").read_text() == before


def test_a_profile_that_names_another_model_starts_from_its_defaults(project):
    text = (project / "params.yaml").read_text()
    (project / "profiles/paper.yaml").write_text(text.replace("size: small", "drop_path: 0.2"))
    (project / "profiles/other.yaml").write_text("model: {name: unet, size: base}")
    assert cli.main(["profile", "other"]) == 0
    assert params.read_yaml(project / "params.yaml")["model"] == {"name": "unet", "size": "base"}


PLACES = {  # what the user's file holds, the profile and --set, what the file holds afterwards
    "mirror": ({"isic2018": {"mirror": "/srv/isic"}}, ["demo"], "isic2018", "mirror", "/srv/isic", 1),
    "folder": ({"folder": {"path": "mine: and, yours"}}, ["paper"], "folder", "path", "mine: and, yours", 1),
    "unchanged": ({}, ["demo"], "isic2018", "mirror", None, 0),
    "asked for": (
        {"isic2018": {"mirror": "/srv/isic"}},
        ["demo", "--set", "data.isic2018.mirror=null"],
        *("isic2018", "mirror", None, 1),
    ),
}


@pytest.mark.parametrize("case", PLACES)
def test_a_profile_keeps_where_the_user_s_images_are_and_says_so(project, capsys, case):
    own, command, source, key, expected, said = PLACES[case]
    content = params.read_yaml(project / "params.yaml")
    for name, values in own.items():
        content["data"][name] |= values
    (project / "params.yaml").write_text(json.dumps(content))
    assert cli.main(["profile", *command]) == 0
    assert params.read_yaml(project / "params.yaml")["data"][source][key] == expected
    assert capsys.readouterr().out.count("kept, as it says where your images are: data.") == said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: {epochs: 0}", "train.epochs = 0"),
        ("train: {epoch: 3}", "unknown key train.epoch = 3; did you mean epochs?"),
        ("trian: {epochs: 3}", "unknown key trian"),
        ("", "expected sections"),
        ("train: [", "not valid YAML"),
    ],
)
def test_a_bad_profile_is_refused_and_writes_nothing(project, capsys, content, message):
    before = (project / "params.yaml").read_bytes()
    (project / "profiles/mine.yaml").write_text(content)
    assert message in refusal(capsys, "profile", "mine")
    assert (project / "params.yaml").read_bytes() == before
    assert sorted(path.name for path in project.iterdir()) == ["params.yaml", "profiles"]


@pytest.mark.parametrize(
    ("own", "removed"), [((), ()), (("my clinic", "50%"), ("kvasir",)), ((), ("*",))], ids=["as it is", "own", "none"]
)
def test_the_help_of_profile_names_those_that_are_there(project, capsys, monkeypatch, own, removed):
    monkeypatch.setenv("COLUMNS", "500")
    for pattern in removed:
        for file in (project / "profiles").glob(f"{pattern}.yaml"):
            file.unlink()
    for name in own:
        (project / f"profiles/{name}.yaml").write_text("model: {size: base}")
    with pytest.raises(SystemExit) as ended:
        cli.main(["profile", "--help"])
    assert ended.value.code == 0
    names = sorted(path.stem for path in (project / "profiles").glob("*.yaml"))
    listed = ", ".join(names) or "none is here (run from the project's root)"
    assert f"{listed}, or a file of your own in profiles/" in capsys.readouterr().out
    assert len(names) >= 5 or removed


def test_an_unknown_profile_names_those_there_are(project, capsys):
    assert "no profile 'dmeo'; there are: demo, " in refusal(capsys, "profile", "dmeo")


def names(content):
    """Every section and key, in the order of the file."""
    for key, value in content.items():
        yield key
        if isinstance(value, dict):
            yield from names(value)


def test_params_tells_of_every_key(capsys):
    assert cli.main(["params"]) == 0
    lines = capsys.readouterr().out.splitlines()
    content = params.read_yaml(ROOT / "profiles/paper.yaml")
    sections = {name: catalogue.find(name).section for name in catalogue.names()}
    of_models = 1 + sum(len(section.model_fields) for section in sections.values())
    others = [key for name, values in content.items() for key in [name, *names(values if name != "model" else {})]]
    assert len(lines) == len(others) + of_models
    assert set(others) <= {line.strip().partition(":")[0] for line in lines}
    assert f"  name: {' | '.join(sections)}" in lines
    assert "    drop_path: number ≥ 0, < 1 (default 0.1)" in lines
    assert "  image_size: whole number ≥ 32, ≤ 2048" in lines
    assert "  threshold: number > 0, < 1 | validation" in lines
    assert profiles.allowed() == "\n".join(lines)


def test_show_augment_draws_training_images_alone(tmp_path, capsys):
    """A sheet of the size that was asked for; the first column is the images as they are."""
    inputs = write_inputs(tmp_path / "inputs", *drawn(12, 32), validation=3, test=3)
    output = tmp_path / "sheet.png"
    where = ["--prepared", str(inputs.prepared), "--split", str(inputs.split), "--output", str(output)]
    strong = write_params(
        tmp_path / "params.yaml", **params.read_yaml(ROOT / "profiles/strong.yaml")["train"], epochs=9
    )
    assert cli.main(["show-augment", "--params", str(strong), *where, "--images", "3", "--epochs", "2"]) == 0
    assert "3 images, as they are and in 2 epochs" in capsys.readouterr().out
    sheet = cv2.imread(str(output), cv2.IMREAD_COLOR_RGB)
    assert sheet.shape == (3 * 36, 3 * 36, 3)
    first = sheet[:32, :32]
    drawn_over = (first == (0, 255, 0)).all(-1)
    assert (first[~drawn_over] == np.load(inputs.prepared / "images.npy")[0][~drawn_over]).all()
    assert (sheet[:32, 36:68] != first).any()
    again = ["show-augment", "--params", str(strong), *where, "--images", "1", "--epochs", "1"]
    assert cli.main(again) == 0, "a sheet of ours is replaced"
    capsys.readouterr()
    for name in ("photo.png", "notes.txt", "folder"):
        (tmp_path / name).mkdir() if name == "folder" else (tmp_path / name).write_bytes(b"mine")
        assert cli.main([*again, "--output", str(tmp_path / name)]) == 1
        assert f"{name}: exists, and was not written by this command" in capsys.readouterr().err
    assert (tmp_path / "photo.png").read_bytes() == b"mine"
    assert cli.main(["show-augment", "--params", str(strong), *where, "--images", "0"]) == 1
    assert "--images 0 and --epochs 7 must be at least 1" in capsys.readouterr().err


def test_show_augment_draws_the_parameters_that_are_set(tmp_path, capsys):
    """As many rows as there are training images, whatever was asked for; a hole in a mask has a contour, too."""
    images, masks = drawn(5, 32)
    masks[:] = 0
    masks[:, 4:28, 4:28], masks[:, 12:20, 12:20] = 1, 0
    inputs = write_inputs(tmp_path / "inputs", images, masks, validation=1, test=1)
    plain = write_params(tmp_path / "params.yaml", rotation_degrees=0)
    sheets = {}
    for change in ("train.holes=0", "train.holes=16"):
        output = tmp_path / f"{change}.png"
        where = ["--prepared", str(inputs.prepared), "--split", str(inputs.split), "--output", str(output)]
        assert cli.main(["show-augment", "--params", str(plain), *where, "-S", change, "--epochs", "2"]) == 0
        assert ": 3 images, as they are and in 2 epochs" in capsys.readouterr().out
        sheets[change] = cv2.imread(str(output), cv2.IMREAD_COLOR_RGB)
        assert sheets[change].shape == (3 * 36, 3 * 36, 3)
    assert (sheets["train.holes=0"] != sheets["train.holes=16"]).any()
    assert (sheets["train.holes=0"][[4, 11], 16] == (0, 255, 0)).all()


def commands_with_changes(parser, *words):
    """Every command that takes parameters to change, with something for whatever else it must be given."""
    actions = parser._actions
    for action in actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, part in action.choices.items():
                yield from commands_with_changes(part, *words, name)
    if {"params", "set"} <= {action.dest for action in actions}:
        for action in actions:
            if action.required:
                words += (*action.option_strings[-1:], "1")
        yield words


@pytest.mark.parametrize("words", list(commands_with_changes(cli.parser())), ids=" ".join)
def test_no_command_ignores_a_parameter_that_is_set(project, capsys, words):
    words = [("paper" if words[0] == "profile" and word == "1" else word) for word in words]
    assert "unknown key train.scael = 1; did you mean scale?" in refusal(capsys, *words, "-S", "train.scael=1")


ESTIMATES = {key: {"mean": 0.9, "low": 0.8, "high": 1.0} for key in ("dice", "iou", "precision", "hd95")}


def test_summary_says_scores_report_and_version(tmp_path, capsys):
    assert "run the pipeline first" in refusal(capsys, "summary", "--reports", tmp_path)
    estimate = {"mean": 0.8712, "low": 0.861, "high": 0.88}
    test = {**dict.fromkeys(("dice", "iou", "precision", "hd95"), estimate), "images": 24, "missed": 1}
    records = {
        "evaluation/metrics.json": {"test": test},
        "registration/registration.json": {"name": "demo", "version": 3, "registry": "sqlite:///mlflow.db"},
    }
    digest = hashlib.sha256(json.dumps(records["evaluation/metrics.json"]).encode()).hexdigest()
    records["registration/registration.json"]["metrics_sha256"] = digest
    for name, record in records.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(json.dumps(record))
    assert cli.main(["summary", "--reports", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for words in (
        "0.8712   (95 % CI 0.8610 to 0.8800)",
        "24 images, 1 missed",
        "report.html",
        "demo version 3 in sqlite",
    ):
        assert words in said
    (tmp_path / "evaluation/metrics.json").write_text(json.dumps({"test": {**test, "missed": 2}}))
    assert cli.main(["summary", "--reports", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "version 3" not in said
    assert "registration.json is of another evaluation; register this one: dvc repro register" in said
    assert "without a lesion" not in said
    alarms = {**test, "without_lesion": 8, "false_alarms": 2}
    (tmp_path / "evaluation/metrics.json").write_text(json.dumps({"test": alarms}))
    assert cli.main(["summary", "--reports", str(tmp_path)]) == 0
    assert "Images without a lesion: 8 of 24, of them with a false alarm: 2" in capsys.readouterr().out


@pytest.mark.parametrize("port", ["-1", "65536", "99999"])
def test_a_port_that_cannot_be_is_one_line(port, capsys):
    assert cli.main(["serve", "--model", "none", "--port", port]) == 1
    assert f"--port {port} must be in 0..65535" in capsys.readouterr().err


RECORDS = {  # what metrics.json and registration.json hold -> what is said
    "empty": (
        {},
        {},
        "metrics.json: holds no test.dice.mean, as a record of another kind or version; run the pipeline",
    ),
    "another kind": ({"test": [1]}, {}, "metrics.json: holds no test.dice.mean"),
    "a number for an estimate": ({"test": {"dice": 0.9}}, {}, "metrics.json: holds no test.dice.mean"),
    "no counts": ({"test": ESTIMATES}, {}, "metrics.json: holds no test.images"),
    "no version": ({"test": {**ESTIMATES, "images": 9, "missed": 0}}, {}, "registration.json: holds no name"),
    "no JSON": (None, {}, "metrics.json: not valid JSON"),
    "a list": ([], {}, "metrics.json: expected a record, found list"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_summary_of_records_that_are_none_is_one_line(case, tmp_path, capsys):
    metrics, registration, message = RECORDS[case]
    for folder in ("evaluation", "registration"):
        (tmp_path / folder).mkdir()
    text = "{" if metrics is None else json.dumps(metrics)
    (tmp_path / "evaluation/metrics.json").write_text(text)
    registration = {**registration, "metrics_sha256": hashlib.sha256(text.encode()).hexdigest()}
    (tmp_path / "registration/registration.json").write_text(json.dumps(registration))
    assert cli.main(["summary", "--reports", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (ValueError("train.epochs = 0"), 1, 1),
        (FileNotFoundError(2, "No such file", "data/split.csv"), 1, 1),
        (PermissionError(13, "Permission denied", "data/split.csv"), 1, 1),
        (OSError(30, "Read-only file system", "reports"), 1, 1),
        (OSError(36, "File name too long", "x" * 300), 1, 1),
        (OSError(28, "No space left on device"), 74, 1),
        (OSError(5, "Input/output error"), 74, 1),
        (ConnectionError("the store is away"), 74, 1),
        (Unavailable("MLflow at http://a: no answer"), 74, 1),
        (TimeoutError("slow"), 74, 1),
        (RuntimeError("NCCL error"), 70, None),
        (KeyError("x"), 70, None),
        (KeyboardInterrupt(), 130, 1),
    ],
)
def test_a_steps_exit_code_says_whether_another_try_may_help(error, code, lines, capsys):
    assert step_cli.guarded("step", lambda: fail(error)) == code
    told = capsys.readouterr().err
    assert ("Traceback" in told) == (lines is None)
    assert lines is None or told.startswith("step: ")
