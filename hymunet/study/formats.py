"""A table as Markdown, as LaTeX and as CSV."""

import csv
import io
from collections.abc import Sequence
from itertools import groupby

from hymunet.study.tables import Grid

LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"–": "--", "×": r"$\times$", "<": r"$<$", "*": r"$\ast$", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}"},
    "^": r"\textasciicircum{}",
}


def markdown(grid: Grid) -> str:
    """With its title above and its notes below; columns of groups in a second table, which opens on a click."""
    first = [index for index, (group, _) in enumerate(grid.columns) if not group]
    further = [0, *(index for index, (group, _) in enumerate(grid.columns) if group)]
    lines = [f"**{grid.title}**", "", *_table(grid, first), ""]
    if len(further) == 1:
        return "\n".join([*lines, " ".join(grid.notes)]) + "\n"
    groups = dict.fromkeys(grid.columns[index][0] for index in further[1:])
    opened = f'<details markdown="1"><summary>More: {", ".join(groups)}; notes</summary>'
    notes = [f"- {note}" for note in grid.notes[1:]]
    return (
        "\n".join([*lines, *grid.notes[:1], "", opened, "", *_table(grid, further), "", *notes, "", "</details>"])
        + "\n"
    )


def _table(grid: Grid, columns: Sequence[int]) -> list[str]:
    labels = [": ".join(filter(None, grid.columns[index])) for index in columns]
    return [_bars(line) for line in (labels, ["---"] * len(labels), *([row[i] for i in columns] for row in grid.rows))]


def _bars(texts: Sequence[str]) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"


def latex(grid: Grid, label: str) -> str:
    """A table environment for the package booktabs; wide ones shrink to the text (graphicx)."""
    groups = [(group, len(list(columns))) for group, columns in groupby(group for group, _ in grid.columns)]
    above = " & ".join(rf"\multicolumn{{{count}}}{{c}}{{{escaped(group)}}}" for group, count in groups)
    lines = [
        r"\begin{table}",
        rf"\caption{{{escaped(grid.title)}}}\label{{tab:{label}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(grid.columns) - 1)}}}",
        r"\toprule",
        *([rf"{above} \\"] if any(group for group, _ in groups) else []),
        rf"{' & '.join(escaped(column) for _, column in grid.columns)} \\",
        r"\midrule",
        *(rf"{' & '.join(map(escaped, row))} \\" for row in grid.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        *([r"\par\footnotesize " + escaped(" ".join(grid.notes))] if grid.notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """For LaTeX."""
    return "".join(LATEX.get(character, character) for character in text)


def comma_separated(grid: Grid) -> str:
    """Every figure at six significant digits; what is not known is left empty."""
    names = list(dict.fromkeys(name for row in grid.data for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in grid.data:
        writer.writerow([f"{row[name]:.6g}" if isinstance(row.get(name), float) else row.get(name) for name in names])
    return text.getvalue()
