"""The study at a glance: a line a model and set, a column a seed, and what is left."""

import shutil
from collections.abc import Mapping
from typing import TextIO

from hymunet.study.plan import Cell
from hymunet.study.state import State

ORDER = ("done", "trained", "running", "stopped", "failed", "damaged", "stale", "missing")
HOME, CLEAR = "\033[{}F", "\033[0J"


def table(states: Mapping[Cell, State], progress: Mapping[Cell, float]) -> str:
    """progress: of running cells, the part of their epochs that is done."""
    seeds = sorted({cell.seed for cell in states})
    lines: dict[tuple[str, str], dict[int, str]] = {}
    for cell, state in states.items():
        set_name = cell.images if cell.fold is None else f"{cell.images} fold {cell.fold}"
        lines.setdefault((set_name, cell.model), {})[cell.seed] = entry(state, progress.get(cell))
    rows = [["set", "model", *(f"seed {seed}" for seed in seeds)]]
    rows += [[*key, *(columns.get(seed, "") for seed in seeds)] for key, columns in lines.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def entry(state: State, progress: float | None = None) -> str:
    """Test Dice where it is known, else validation Dice in brackets, with a star where stale; else the state."""
    if state.result and state.kind in ("done", "trained", "stale"):
        star = "*" if state.kind == "stale" else ""
        if state.result.tested:
            return f"{state.result.metrics()['test']['dice']['mean']:.4f}{star}"
        return f"({state.result.record['validation_dice']:.4f}){star}"
    if state.kind == "running":
        return "running" if progress is None else f"{progress:.0%}"
    return "." if state.kind == "missing" else state.kind


def totals(states: Mapping[Cell, State], seconds_left: float | None = None) -> str:
    """`4 done, 1 running, 7 missing; about 0:12:30 left`."""
    kinds = [state.kind for state in states.values()]
    named = {kind: "stale (*)" if kind == "stale" else kind for kind in ORDER}
    text = ", ".join(f"{kinds.count(kind)} {named[kind]}" for kind in ORDER if kind in kinds) or "no cell"
    return text if seconds_left is None else f"{text}; about {clock(seconds_left)} left"


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def reasons(states: Mapping[Cell, State]) -> list[str]:
    """A line for each cell that is neither computed nor simply missing; one for all that are stale for one reason."""
    lines: dict[tuple[str, ...], list[str]] = {}
    for cell, state in states.items():
        if state.why:
            key = (state.kind, state.why) if state.kind == "stale" else (state.kind, state.why, cell.name)
            lines.setdefault(key, []).append(cell.name)
    return [
        f"{names[0] if len(names) == 1 else f'{len(names)} cells, first {names[0]}'}: {kind}: {why}"
        for (kind, why, *_), names in lines.items()
    ]


class Board:
    """On a terminal the table is drawn over itself; elsewhere a line is added when a cell's state changes."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.live = stream, stream.isatty()
        self.drawn = 0
        self.told: dict[Cell, str] = {}

    def show(self, states: Mapping[Cell, State], progress: Mapping[Cell, float], seconds_left: float | None) -> None:
        if self.live:
            columns = shutil.get_terminal_size().columns  # a line that went on below would count as one all the same
            lines = f"{self._fitting(states, progress)}\n{totals(states, seconds_left)}".split("\n")
            text = "".join(f"{line if len(line) <= columns else line[: columns - 1] + '…'}\n" for line in lines)
            back = HOME.format(self.drawn) if self.drawn else ""
            self.stream.write(f"{back}{CLEAR}{text}")
            self.drawn = text.count("\n")
        else:
            for cell, state in states.items():
                if cell in self.told and self.told[cell] != state.kind:
                    said = entry(state) if state.kind in ("done", "trained") else ""
                    summary = totals(states, seconds_left)
                    self.stream.write(f"{cell.name} {' '.join([state.kind, said]).strip()} [{summary}]\n")
            self.told = {cell: state.kind for cell, state in states.items()}
        self.stream.flush()

    def _fitting(self, states: Mapping[Cell, State], progress: Mapping[Cell, float]) -> str:
        """The table; where the terminal is too low for all of it, the models at work alone."""
        whole = table(states, progress)
        if whole.count("\n") + 3 <= shutil.get_terminal_size().lines:
            return whole
        working = {(cell.images, cell.model, cell.fold) for cell, state in states.items() if state.kind == "running"}
        return table({c: s for c, s in states.items() if (c.images, c.model, c.fold) in working}, progress)
