"""Results that machines share: computed once, by whoever comes first, under whatever name a study gives them."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from hymunet import cli
from hymunet.study import plan, state
from hymunet.study.data import Places
from hymunet.study.store import Store
from tests.support import small_project, small_study

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
NET = {"unet": {"title": "U-Net", "model": {"name": "unet", "size": [4, 8]}}}
TABLES = {"one": {"title": "One", "models": ["unet"]}}
FAST = {**small_study.SMALL, "epochs": 1}


def run(study: Path, data: Path, store: Path, capsys: pytest.CaptureFixture[str], *options: object) -> list[str]:
    """The command's lines on standard output, each study in a workspace of its own."""
    where = ["--data", f"drawn={data}", "--work", study.parent / f"{study.name}-work", "--store", store]
    assert cli.main(small_study.command("run", study, *where, *options)[3:]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_second_machine_computes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, store = tmp_path / "data", tmp_path / "store"
    small_project.write_data(data)
    changes = {"models": NET, "tables": TABLES, "params": {**small_study.definition()["params"], "train": FAST}}
    here = small_study.write_study(tmp_path / "here", **changes)
    there = small_study.write_study(
        tmp_path / "there", **{**changes, "models": {"net": NET["unet"]}, "reference": "net", "tables": {}}
    )
    out = run(here, data, store, capsys, "--only", "*/seed-0")
    assert out[0].endswith("0 results taken, 0 given")
    assert len(list(store.rglob("*.zip"))) == 1

    out = run(there, data, store, capsys, "--only", "*/seed-0")
    assert "1 results taken" in out[0]
    assert "to compute: 0" in out[1]
    record = json.loads((there / "results/drawn/net/seed-0/cell.json").read_text())
    assert record["cell"]["name"] == "drawn/net/seed-0"
    for name in ("metrics.json", "per_image.csv", "history.json"):
        assert (there / "results/drawn/net/seed-0" / name).read_bytes() == (
            here / "results/drawn/unet/seed-0" / name
        ).read_bytes()

    shutil.rmtree(store)
    assert "0 results taken, 1 given" in run(there, data, store, capsys, "--only", "*/seed-0")[0]
    [shared] = store.rglob("*.zip")
    kept = shared.read_bytes()
    shutil.rmtree(here / "results")
    planned = plan.load(here)
    [cell], places = planned.chosen(["*/seed-0"]), Places(tmp_path / "here-work", {"drawn": data})
    for damage in (_cut, _climbing, _changed):
        shared.write_bytes(kept)
        damage(shared)
        states = {cell: state.state(planned, cell, places)}
        assert Store(str(store)).exchange(planned, places, states, [cell]) == ([], []), damage.__name__
        assert not (here / "results").exists(), damage.__name__
        assert not (tmp_path / "outside.txt").exists(), damage.__name__
    damaged = shared.read_bytes()
    out = run(here, data, store, capsys, "--only", "*/seed-0")
    assert "0 results taken" in out[0]
    assert "to compute: 1" in out[1]
    assert shared.read_bytes() != damaged, "a whole one is put in its place"


def _cut(shared: Path) -> None:
    shared.write_bytes(shared.read_bytes()[:-100])


def _changed(shared: Path) -> None:
    """Scores that the record was not made with."""
    with zipfile.ZipFile(shared) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(shared, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content.replace(b"0.", b"0.9", 1) if name == "per_image.csv" else content)


def _climbing(shared: Path) -> None:
    with zipfile.ZipFile(shared, "w") as archive:
        archive.writestr("../../outside.txt", "x")


def test_a_closed_study_shares_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = small_study.write_study(tmp_path / "mini", models=NET, tables=TABLES)
    assert cli.main(small_study.command("run", study, "--closed", "--store", tmp_path / "store")[3:]) == 1
    assert "--closed does not go with --store" in capsys.readouterr().err
