"""The compiled study, each of its containers as a process here: killed, gone on with, and shared with a workstation."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kfp", reason="needs the extra `pipelines`")

from hymunet import cli
from hymunet.study import plan
from pipelines import graph
from pipelines.reference import of_run
from pipelines.study import compile_study
from pipelines.study_text import packed
from tests.support import demo_study
from tests.support.pod_processes import Processes
from tests.support.small_study import command
from tests.unit.pipelines.test_compile import cluster

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]


def verdicts(root: Path, run: str) -> dict[str, str]:
    found = [json.loads(path.read_text()) for path in (root / run).rglob("verdict")]
    return {one["cell"]: one["state"] for one in found}


def test_a_study_is_computed_once_here_and_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "SECOND", 0.0)
    monkeypatch.setenv("HYMUNET_TRACKING", "off")
    study, remote, root = demo_study.write(tmp_path / "demo"), tmp_path / "remote", tmp_path / "kubeflow"
    store = ["--store", remote / "study", "--work", tmp_path / "work"]
    assert cli.main(command("run", study, *store, "--only", "drawn/unet/seed-0")[3:]) == 0

    environment = {"HYMUNET_CHECKPOINTS": str(tmp_path / "checkpoints")}
    planned, package = plan.load(study), tmp_path / "p.yaml"
    settings = cluster(dvc_remote=str(remote), environment=environment, secrets=[])
    compile_study(settings, packed(study, []), planned.cells, 2, package)

    def run(name: str, **options: Any) -> Processes:
        processes = Processes(tmp_path / "pods" / name, **options)
        assert graph.Graph(package).run({}, root, name, processes), "\n".join(processes.logs)[-5000:]
        return processes

    first = run("first", kill="drawn/attention/seed-1")
    assert first.kill == "", "no cell was killed"
    kept = "train: goes on at step", "train: all 12 steps are done already"  # the latter: killed late
    assert any(said in log for log in first.logs for said in kept), "\n".join(first.logs)[-5000:]
    assert verdicts(root, "first") == {
        name: "restored" if name == "drawn/unet/seed-0" else "computed" for name in demo_study.CELLS
    }
    page = (root / "first/study-tables/report").read_text()
    assert "Attention U-Net" in page
    assert "<svg" in page
    told = (root / "first/finish/report").read_text()
    assert "<p class=good>succeeded</p>" in told
    for name in ("drawn/validate", *demo_study.CELLS, "tables"):
        assert f"<td>{name}<td class=good>" in told

    given = json.loads((study / "results/drawn/unet/seed-0/cell.json").read_text())["made_from"]["data_sha256"]
    profile = of_run("first-drawn", str(remote), given)
    assert 20 <= profile["images"] < 40
    assert profile["measures"]["megapixels"]["median"] == 64 * 64 / 1e6
    with pytest.raises(ValueError, match="--reference first-drawn: made of images"):
        of_run("first-drawn", str(remote), "0" * 64)

    run("second")
    assert verdicts(root, "second") == dict.fromkeys(demo_study.CELLS, "restored")

    capsys.readouterr()
    assert cli.main(command("run", study, *store)[3:]) == 0
    out = capsys.readouterr().out
    assert "3 results taken, 0 given" in out
    assert "to compute: 0" in out
    assert cli.main(command("tables", study)[3:]) == 0


def test_a_run_that_is_stopped_is_told_and_its_state_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "SECOND", 0.0)
    study, remote, root = demo_study.write(tmp_path / "demo"), tmp_path / "remote", tmp_path / "kubeflow"
    cells, package = plan.load(study).cells[:2], tmp_path / "p.yaml"
    settings = cluster(dvc_remote=str(remote), environment={"HYMUNET_TRACKING": "off"}, secrets=[])
    compile_study(settings, packed(study, []), cells, 1, package)
    lost = Processes(tmp_path / "pods", kill=cells[1].name, lost=True)
    assert not graph.Graph(package).run({}, root, "stopped", lost), "\n".join(lost.logs)[-5000:]

    expected = f"stopped: {cells[1].name} began and has no end; 1 of 7 parts did not begin"
    told = (root / "stopped/finish/report").read_text()
    assert f"<p class=bad>{expected}</p>" in told
    assert f"<td>{cells[0].name}<td class=good>computed" in told
    assert f"<td>{cells[1].name}<td class=bad>begun" in told
    assert "<td>tables<td class=bad>not begun" in told
    assert (remote / "pipeline-runs/stopped/outcome").read_text() == f"{expected}\n"
    assert expected in lost.logs[-1], "and its log says so"
