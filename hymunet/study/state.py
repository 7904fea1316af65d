"""Where each cell of a study stands: what its result must have been made from, and what there is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hymunet import atomic, closure, evidence
from hymunet.models import catalogue
from hymunet.study import locks, results
from hymunet.study.data import Data, Places
from hymunet.study.plan import Cell, Plan
from hymunet.training import identity

SCORES = tuple(  # the code that decides them, given weights
    f"hymunet.{name}"
    for name in ("inference", *(f"evaluation.{part}" for part in ("measure", "threshold", "calibration")))
)
FAILED, LOG = "failed.json", "log.txt"


@dataclass(frozen=True)
class State:
    """kind: done, trained (validation alone; tests closed), stale, damaged, failed, running or missing. why: if not
    obvious. result: what is there, also of other settings, code or data."""

    kind: str
    why: str = ""
    result: results.Result | None = None


def expected(plan: Plan, cell: Cell, data: Data) -> dict[str, Any]:
    """What a cell's result depends on: `settings` and `made_from`. Data that are not here are left open."""
    wanted = settings(plan, cell)
    return {"settings": wanted, "made_from": {**(data.hashes() or {}), **_code(wanted["model"]["name"])}}


def settings(plan: Plan, cell: Cell) -> dict[str, Any]:
    content = plan.checked(cell)
    train = {key: value for key, value in content.train.model_dump().items() if key not in identity.IMMATERIAL}
    return {
        "model": content.model.model_dump(),
        "train": train,
        "evaluate": content.evaluate.model_dump(),
        "scored": plan.study.scored,
        "image_size": content.prepare.image_size,
    }


@cache
def _code(model: str) -> dict[str, str]:
    declared = catalogue.module(model)
    own = [declared] if declared.startswith("hymunet.") else []
    scoring = closure.sha256(closure.files(*SCORES, *own))
    return {"training_code": identity.code_sha256(model), "scoring_code": scoring}


def state(plan: Plan, cell: Cell, places: Places) -> State:
    work = workplace(places, cell)
    if locks.taken(work):
        return State("running")
    try:
        result = results.read(plan.results(cell))
    except ValueError as error:
        return State("damaged", str(error))
    wanted = expected(plan, cell, places.of(cell))
    if result and not (reasons := results.differences(wanted, result.record)):
        return State("done" if result.tested else "trained", result=result)
    try:
        if failed := _failure(work, wanted):
            return State("failed", failed, result)
    except ValueError as error:
        return State("damaged", str(error), result)
    return State("stale", "; ".join(reasons), result) if result else State("missing")


def _failure(work: Path, wanted: dict[str, Any]) -> str | None:
    """Why the cell failed, where that holds for what is wanted now. ValueError for a damaged note."""
    note = work / FAILED
    remedy = f"remove {note}"
    record = evidence.read(note, remedy) if note.is_file() else {}
    if not record or record.get("wanted") != wanted:
        return None
    code, said = (evidence.field(record, note, remedy, key) for key in ("code", "said"))
    return f"exit code {code}: {said} ({work / LOG})"


def note_failure(plan: Plan, cell: Cell, places: Places, code: int) -> str:
    """Writes down that a cell failed, for as long as it would fail in the same way; returns what it said last."""
    work = workplace(places, cell)
    said = last_line(work / LOG)
    record = {"wanted": expected(plan, cell, places.of(cell)), "code": code, "said": said}
    atomic.write(work / FAILED, json.dumps(record, indent=2) + "\n")
    return said


def take_in(plan: Plan, cells: Sequence[Cell], places: Places, folder: Path) -> list[str]:
    """Copies the results of these cells found below `folder` into the study; returns a line for each.

    Raises ValueError, and copies nothing, for a damaged one, for one of other settings, for two of one cell that
    differ, and for one that differs from a tested result that is there, unless that is stale and the new one is not.
    """
    taken_in: dict[Cell, results.Result] = {}
    lines = []
    for record in sorted(folder.rglob(results.RECORD)):
        result = results.read(record.parent)
        if result is None:
            raise ValueError(f"{record}: a folder, or a link that leads nowhere; remove it")
        cell = next((one for one in cells if one.name == result.record["cell"]["name"]), None)
        if cell is None:
            lines.append(f"{record.parent}: left out; {result.record['cell']['name']} is not among the cells asked for")
            continue
        wanted, present = expected(plan, cell, places.of(cell)), state(plan, cell, places)
        if others := results.contradictions(wanted["settings"], result.record["settings"]):
            raise ValueError(f"{record}: {cell.name} with other settings: {'; '.join(others)}")
        if present.kind == "running":
            raise ValueError(f"{cell.name}: is being computed here; stop that, or wait for it")
        if (other := taken_in.setdefault(cell, result)).record["files"] != result.record["files"]:
            raise ValueError(f"{record}: {cell.name} lies in {other.folder}, too, with other scores; import one")
        stale = "; ".join(results.differences(wanted, result.record))
        there = present.result
        same = there is not None and there.record["files"] == result.record["files"]
        if there and there.tested and not same and (present.kind == "done" or stale or not result.tested):
            raise ValueError(
                f"{record}: {cell.name} is {present.kind} here, with other scores, and this one is "
                f"{f'stale: {stale}' if stale else 'of the same code' if result.tested else 'not tested'}; "
                f"remove {plan.results(cell)} to replace it"
            )
        kept = same and (present.kind in ("done", "trained") or bool(stale))
        lines.append(f"{cell.name}: {'there already' if kept else 'taken in'}{f' (stale: {stale})' if stale else ''}")
        if kept:
            del taken_in[cell]
    if not lines:
        raise ValueError(f"{folder}: no {results.RECORD} in it")
    for cell, result in taken_in.items():
        results.copy(result, plan.results(cell))
    return lines


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"


def workplace(places: Places, cell: Cell) -> Path:
    """Where a cell is computed: log, checkpoints, weights, reports."""
    return places.work / "cells" / cell.name
