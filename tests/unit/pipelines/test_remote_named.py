"""A program that works on the shared store ends at once where none is named."""

import importlib

import pytest

pytest.importorskip("dvc", reason="needs the extra `dvc`")

EXECUTOR = ["--executor-input", "{}"]
RUN = ["--run", "r"]
PROGRAMS = {
    "step": ["--stage", "train", *RUN, "--params", "{}", *EXECUTOR],
    "node": ["--stage", "train", *RUN, "--params", "{}"],
    "finish": RUN,
    "study_cell": ["--study", "title: t", "--cell", "drawn/unet/seed-0", *EXECUTOR],
    "study_tables": ["--study", "title: t", "--verdicts", "[]", *EXECUTOR],
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("variable", [None, "", " "])
def test_without_a_remote_nothing_begins(monkeypatch, capsys, program, variable):
    monkeypatch.delenv("HYMUNET_DVC_REMOTE", raising=False)
    if variable is not None:
        monkeypatch.setenv("HYMUNET_DVC_REMOTE", variable)
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"pipelines.{program}").main(PROGRAMS[program])
    assert ended.value.code == 2
    assert "no DVC remote: set HYMUNET_DVC_REMOTE, or name it with --remote" in capsys.readouterr().err
