"""Decisions, versions and the ledger as people and programs read them: Markdown and JSON."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hymunet.registry.decide import Decision
    from hymunet.registry.ledger import Entry, State

HEADLINES = {
    "promote": "version {version} becomes champion",
    "override": "version {version} becomes champion without regard to the gates",
    "refuse": "version {version} is not promoted",
    "request": "version {version} waits for approval by a second person",
    "none": "version {version} is the champion already",
}
REHEARSED = {  # where nothing was changed
    "promote": "version {version} would become champion",
    "override": "version {version} would become champion without regard to the gates",
    "refuse": "version {version} would not be promoted",
    "request": "version {version} would wait for approval by a second person",
}


def record(decision: "Decision") -> dict[str, Any]:
    """For JSON."""
    return {"promoted": decision.promoted, **asdict(decision)}


def markdown(decision: "Decision", carried_out: bool = True) -> str:
    """The headline, the gates as a table, and what failed with its remedy. carried_out: no for a rehearsal."""
    headlines = HEADLINES if carried_out else {**HEADLINES, **REHEARSED}
    lines = [f"# {decision.model}: {headlines[decision.kind].format(version=decision.version)}", ""]
    if decision.gates:
        rows = [
            ("passed" if gate.passed else "**failed**", gate.name, gate.figure, gate.threshold)
            for gate in decision.gates
        ]
        lines += [*table(("", "gate", "figure", "threshold"), rows), ""]
    lines += [f"- {gate.name}: {gate.why}" for gate in decision.gates if not gate.passed and gate.why]
    if decision.difference is not None:
        times = f"{decision.decided_before} times" if decision.decided_before != 1 else "once"
        lines.append(f"These test images have decided {times} before, on other pairs of versions.")
    if decision.entry is not None:
        lines.append(f"Entry {decision.entry} of the ledger.")
    return "\n".join(lines).rstrip()


def history(entries: "Sequence[Entry]", state: "State") -> list[dict[str, Any]]:
    """The ledger, oldest first; `holds`: no for an entry that came second and changed nothing."""
    return [{**asdict(entry), "holds": entry.number not in state.void} for entry in entries]


def history_lines(found: Iterable[dict[str, Any]], width: int) -> list[str]:
    """`history` for people: what was decided in a line of columns, why below it, no line longer than width.

    Each line begins with its entry's number, so that a search for it finds the whole entry.
    """
    heads, reasons = [("entry", "when", "version", "champion then", "kind", "by")], [""]
    for row in found:
        kind = row["kind"] if row["holds"] else f"{row['kind']} (void: came second)"
        heads.append((str(row["number"]), row["when"], row["version"] or "-", row["against"] or "-", kind, row["by"]))
        reasons.append(" ".join((row["reason"] or "no reason given").split()))
    widths = [max(map(len, column)) for column in zip(*heads, strict=True)]
    lines = []
    for (number, *cells), reason in zip(heads, reasons, strict=True):
        start = f"{number.ljust(widths[0])}  "
        head = "  ".join(cell.ljust(size) for cell, size in zip(cells, widths[1:], strict=True)).rstrip()
        for text, indent in ((head, start), (reason, f"{start}  ")):
            lines += textwrap.wrap(
                text, width, initial_indent=indent, subsequent_indent=f"{start}    ", break_on_hyphens=False
            )
    return lines


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, its columns aligned."""
    cells = [list(head), *([" ".join(text.split()).replace("|", "\\|") for text in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [f"| {' | '.join(text.ljust(width) for text, width in zip(row, widths, strict=True))} |" for row in cells]
    return [lines[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *lines[1:]]
