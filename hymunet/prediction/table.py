"""predictions.csv: a row for each image, added as soon as its files are written, so that a stopped run goes on."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from hymunet import atomic
from hymunet.formats.spreadsheet import quoted, unquoted

NAME = "predictions.csv"
COLUMNS = (
    "name",  # of its results, below the output folder
    "image",
    "width",
    "height",
    "area_pixels",
    "area_fraction",
    "components",
    "confidence",
    "agreement",  # of an ensemble alone
    "out_of_distribution",  # no, by which measures, or unknown
    "seconds",
    "image_sha256",
    "model",
)


class Table:
    """The rows of an output folder, those of earlier runs too. Raises ValueError for a file of another kind."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._rows: dict[str, str] = {}
        self._file: TextIO | None = None
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        check(self.path)
        with self.path.open(encoding="utf-8", newline="") as file:
            next(file)
            for line in file:
                if line.endswith("\n") and len(cells := _cells(line)) == len(COLUMNS):
                    self._rows[cells[0]] = line
                    if not any(cells[1:]):  # forgotten
                        del self._rows[cells[0]]

    def __getitem__(self, name: str) -> dict[str, str] | None:
        line = self._rows.get(name)
        return dict(zip(COLUMNS, _cells(line), strict=True)) if line else None

    def rows(self) -> Iterator[dict[str, str]]:
        """By name."""
        for name in sorted(self._rows):
            row = self[name]
            assert row is not None
            yield row

    def add(self, row: dict[str, Any]) -> None:
        line = _line([row[name] for name in COLUMNS])
        self._append(line)
        self._rows[row["name"]] = line

    def forget(self, name: str) -> None:
        """Before files of another making take the place of those that the row is of."""
        if name in self._rows:
            self._append(_line([name, *[""] * (len(COLUMNS) - 1)]))
            del self._rows[name]

    def _append(self, line: str) -> None:
        if self._file is None:  # a run without a row leaves no table
            self.write()
            self._file = self.path.open("a", encoding="utf-8", newline="")
        self._file.write(line)
        self._file.flush()

    def write(self) -> None:
        """One row a name, sorted."""
        atomic.write(self.path, _line(COLUMNS) + "".join(self._rows[name] for name in sorted(self._rows)))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self.write()


def check(path: Path) -> None:
    """Raises ValueError for a file that is there and is no table of ours."""
    with path.open("rb") as file:
        head = file.readline(1000)
    if head.decode("utf-8", "replace") not in (_line(COLUMNS), ""):
        raise ValueError(f"{path}: there already and not written by this command; name another folder with --output")


def _line(cells: Any) -> str:
    """One line whatever a name holds, and no formula."""
    text, named = io.StringIO(), (str(cell).replace("\r", " ").replace("\n", " ") for cell in cells)
    csv.writer(text, lineterminator="\n").writerow(map(quoted, named))
    return text.getvalue()


def _cells(line: str) -> list[str]:
    return [unquoted(cell) for cell in next(csv.reader([line]))]
