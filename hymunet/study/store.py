"""Results of cells that machines share: each once, by what it was made from, whoever computed it.

A cell's files are one object, `KEY.zip`; the key is the hash of its settings, images, split and code. Neither the
study's name nor the cell's is in it: two studies that ask for the same training share its result.
"""

import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hymunet.formats.zips import DAMAGED
from hymunet.study import results, state
from hymunet.study.data import Places
from hymunet.study.plan import Cell, Plan
from hymunet.study.state import State
from hymunet.training.checkpoint_store import open_storage

FILES = (*results.TRAINING, *results.TEST, results.RECORD)
DATE = (1980, 1, 1, 0, 0, 0)  # the same result has the same bytes


class Store:
    """location: a folder, or s3://bucket/prefix. Raises ValueError where it must not be written, OSError where it
    cannot be for now."""

    def __init__(self, location: str) -> None:
        self.storage = open_storage(location, "cells", "results")

    def take(self, wanted: Mapping[str, Any], cell: Cell, folder: Path) -> results.Result | None:
        """The tested result that was made from just this, into `folder` as the cell's own; None where there is none."""
        try:
            content = self.storage.read(_name(wanted))
        except FileNotFoundError:
            return None
        with tempfile.TemporaryDirectory() as unpacked:
            _unpack(content, Path(unpacked))
            found = results.held(Path(unpacked), wanted)
            if found is None or not found.tested:
                return None  # damaged, or another's: computed again, it is put in its place
            results.copy(results.Result(found.folder, {**found.record, "cell": cell.described}), folder)
        return results.read(folder)

    def put(self, result: results.Result, wanted: Mapping[str, Any] | None = None) -> None:
        """wanted: what the result holds for, where it knows less settings than there are by now. Raises OSError."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name in (*result.record["files"], results.RECORD):
                archive.writestr(zipfile.ZipInfo(name, DATE), (result.folder / name).read_bytes())
        self.storage.write(_name(wanted or result.record), packed.getvalue())

    def exchange(
        self, plan: Plan, places: Places, states: dict[Cell, State], lacking: Collection[Cell]
    ) -> tuple[list[Cell], list[Cell]]:
        """Takes what is lacking here, gives what is done; `states` follows. Returns the cells taken and given."""
        taken, given, there = [], [], set(self.storage.names())
        for cell, at in states.items():
            wanted = state.expected(plan, cell, places.of(cell))
            if at.kind == "done" and at.result and _name(wanted) not in there:
                self.put(at.result, wanted)
                given.append(cell)
            elif cell in lacking and _name(wanted) in there and (found := self.take(wanted, cell, plan.results(cell))):
                states[cell] = State("done", result=found)
                taken.append(cell)
        return taken, given


def _name(made: Mapping[str, Any]) -> str:
    """Of what a cell must be made from, or of a record that says what it was made from."""
    text = json.dumps({key: made[key] for key in ("settings", "made_from")}, sort_keys=True)
    return f"{hashlib.sha256(text.encode()).hexdigest()}.zip"


def _unpack(content: bytes, folder: Path) -> None:
    """The files of a cell, by their own names alone: an archive's paths lead nowhere else."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = {name: archive.read(name) for name in set(FILES) & set(archive.namelist())}
    except DAMAGED:
        return
    for name, file in files.items():
        (folder / name).write_bytes(file)
