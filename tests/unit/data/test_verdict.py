"""The verdict of the data checks: training accepts it of the very data that it judged, and only when they passed."""

import json

import pytest

from hymunet.data.check.verdict import require_passed, write_verdict


@pytest.fixture
def judged(tmp_path):
    """prepared, split.csv and a verdict on them."""
    (tmp_path / "prepare.json").write_text(json.dumps({"sha256": "of the arrays"}))
    (tmp_path / "split.csv").write_text("id,group,split\n")
    write_verdict(tmp_path / "verdict.json", True, tmp_path, tmp_path / "split.csv")
    return tmp_path


def require(folder):
    require_passed(folder / "verdict.json", folder, folder / "split.csv")


def test_data_that_passed_may_be_trained_on(judged):
    require(judged)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "run the validate step first"),
        ("{", "not a verdict"),
        ("[]", "not a verdict"),
        ('{"success": true}', "not a verdict"),
        ('{"passed": true}', "judges other data"),
    ],
)
def test_without_a_verdict_nothing_is_trained(judged, content, problem):
    (judged / "verdict.json").unlink()
    if content is not None:
        (judged / "verdict.json").write_text(content)
    with pytest.raises(ValueError, match=problem):
        require(judged)


@pytest.mark.parametrize("passed", [False, "true", 1])
def test_data_that_did_not_pass_are_not_trained_on(judged, passed):
    content = json.loads((judged / "verdict.json").read_text())
    (judged / "verdict.json").write_text(json.dumps(content | {"passed": passed}))
    with pytest.raises(ValueError, match="data checks failed"):
        require(judged)


@pytest.mark.parametrize(
    ("name", "content"),
    [("prepare.json", '{"sha256": "of others"}'), ("split.csv", "id,group,split\na,a,train\n")],
)
def test_a_verdict_on_other_data_is_none(judged, name, content):
    (judged / name).write_text(content)
    with pytest.raises(ValueError, match="judges other data"):
        require(judged)


@pytest.mark.parametrize(("name", "content"), [("prepare.json", None), ("prepare.json", "[]"), ("split.csv", None)])
def test_data_that_cannot_be_told_are_named(judged, name, content):
    (judged / name).unlink()
    if content is not None:
        (judged / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name}: .* again|{name}: no such file; run the prepare and split steps"):
        require(judged)
