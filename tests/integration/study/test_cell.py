"""A cell that is trained here and there and scored on a third machine: its record tells of those that trained."""

import json
from pathlib import Path

import pytest

from hymunet import evidence
from hymunet.study import cell as cells
from hymunet.study import plan as plans
from hymunet.study.data import Places
from hymunet.training import device, trainer
from hymunet.training.interrupts import RESUME_ME
from tests.support import small_project, small_study

pytestmark = pytest.mark.integration
NETS = {"unet": {"title": "U-Net", "model": {"name": "unet", "size": [4, 8]}}}


class Machine:
    """What a process would find on a machine of this name; the training itself is a real one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch

    def become(self, name: str, memory: int, at_once: int) -> None:
        self.patch.setattr(device, "describe", lambda used: name)
        self.patch.setattr(device, "peak_memory_bytes", lambda used: memory)
        self.patch.setenv(cells.AT_ONCE, str(at_once))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("HYMUNET_TRACKING", "off")
    return Machine(monkeypatch)


def test_the_record_is_of_the_machines_that_trained(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_project.write_data(tmp_path / "data")
    plan = plans.load(small_study.write_study(tmp_path / "mini", models=NETS, tables={}))
    cell, places = plan.find("drawn/unet/seed-0"), Places(tmp_path / "work", {"drawn": tmp_path / "data"})

    def stopped(*arguments: object) -> int:
        return RESUME_ME

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train", stopped)
        machine.become("card one", 3000, 2)
        assert cells.compute(plan, cell, places, closed=True) == RESUME_ME
    machine.become("card two", 2000, 1)
    assert cells.compute(plan, cell, places, closed=True) == 0
    closed = evidence.read(plan.results(cell) / "cell.json", "")
    machine.become("a processor that scores", 9000, 4)
    assert cells.compute(plan, cell, places, closed=False) == 0
    record = evidence.read(plan.results(cell) / "cell.json", "")
    assert record["machine"] == closed["machine"] == "card one, card two"
    assert (record["cells_on_the_device"], record["peak_memory_bytes"], record["training_stretches"]) == (2, 3000, 2)
    assert record["training_seconds"] == closed["training_seconds"]
    assert record["weights_sha256"] == closed["weights_sha256"]


def test_closed_tests_withhold_no_scores_of_the_validation_images(tmp_path: Path, machine: Machine) -> None:
    """A study that is scored on those has its scores at once: its weights may be gone when somebody opens the tests."""
    small_project.write_data(tmp_path / "data")
    plan = plans.load(small_study.write_study(tmp_path / "mini", models=NETS, tables={}, scored="validation"))
    cell, places = plan.find("drawn/unet/seed-0"), Places(tmp_path / "work", {"drawn": tmp_path / "data"})
    machine.become("card", 3000, 1)
    assert cells.compute(plan, cell, places, closed=True) == 0
    assert "per_image.csv" in evidence.read(plan.results(cell) / "cell.json", "")["files"]


def test_weights_whose_training_nobody_told_of_are_not_taken_on_trust(tmp_path: Path, machine: Machine) -> None:
    """As where the file is lost; the epochs are in the checkpoint or computed again."""
    small_project.write_data(tmp_path / "data")
    plan = plans.load(small_study.write_study(tmp_path / "mini", models=NETS, tables={}))
    cell, places = plan.find("drawn/unet/seed-0"), Places(tmp_path / "work", {"drawn": tmp_path / "data"})
    machine.become("card", 3000, 1)
    assert cells.compute(plan, cell, places, closed=True) == 0
    told = tmp_path / "work/cells" / cell.name / cells.STRETCHES
    weights = evidence.read(plan.results(cell) / "cell.json", "")["weights_sha256"]
    content = json.loads(told.read_text())
    told.write_text(json.dumps({"parts": content["parts"], "seconds": [1.0]}))  # as an earlier version wrote it
    assert cells.compute(plan, cell, places, closed=False) == 0
    record = evidence.read(plan.results(cell) / "cell.json", "")
    assert (record["machine"], record["training_stretches"], record["weights_sha256"]) == ("card", 1, weights)
