"""Parameters that somebody wrote on Kubeflow's page and that no try can read: the step ends well, once, and says it."""

import subprocess
from pathlib import Path

import pytest

pytest.importorskip("dvc", reason="needs the extra `dvc`")

from pipelines.verdicts import FailedForGood
from tests.integration.pipelines.toy import Toy

WRONG = {
    "fetch: &a {bytes: *a}": "params: endless, as an anchor in it contains itself",
    "fetch: {bytes: !!bool maybe}": "params: not readable ('maybe')",
    "fetch: {bytes: 2018-13-45}": "params: not readable (month must be in 1..12)",
    f"fetch: {'[' * 3000}": "params: not readable (maximum recursion depth",
    "fetch: {bytes: 1, bytes: 2}": "params: not valid YAML: while constructing a mapping",
    "prepare: {scale: 1}": "Parameters 'fetch' are missing from 'params.yaml'. Correct the run's parameters",
}


@pytest.mark.parametrize("text", WRONG)
def test_it_is_tried_once_and_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "remote").mkdir()
    toy = Toy(tmp_path, str(tmp_path / "remote"), {}).create()
    command, outputs = toy.command("run", "fetch", None, {})
    command[command.index("--params") + 1] = text
    done = subprocess.run(command, env=toy.environment(), cwd=toy.root, capture_output=True, text=True)
    assert (done.returncode, toy.ran()) == (0, []), done.stderr[-1000:]
    failed = FailedForGood.read(outputs / "lock")
    assert failed is not None
    assert WRONG[text] in failed.reason
    assert "Traceback" not in done.stderr
