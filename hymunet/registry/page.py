"""One page of a registered model, for people without the command: versions with their intervals, and every decision.

It needs nothing but itself: no script, no picture and no font from elsewhere.
"""

import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from math import isfinite
from typing import Any

from hymunet.registry.ledger import Entry, State

STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #8884; vertical-align: top }
tr.champion { background: #2a806018 } .scroll { overflow-x: auto }
details { border: 1px solid #8886; border-left: 5px solid #2a8060; border-radius: 4px }
details { margin: .5rem 0; padding: .4rem .8rem }
details.refuse { border-left-color: #b5473c } details.rollback { border-left-color: #a8780c }
.failed { font-weight: 600 } .void { opacity: .55 } svg { display: block } summary { cursor: pointer }
.when { opacity: .75; float: right; margin-left: 1rem } summary span { display: block; padding-left: 1.1rem }
"""
WORDS = {
    "promote": "version {0} became champion",
    "override": "version {0} became champion, whatever the gates say",
    "rollback": "version {0} is champion again",
    "refuse": "version {0} was refused",
    "request": "version {0} waits for a second person",
    "acknowledge": "it was accepted that earlier entries were deleted or changed",
}
SHOWN = 160  # characters of a reason before the entry is opened
WIDTH, HEIGHT = 240, 16  # of an interval's picture, in pixels


def page(
    name: str, versions: Mapping[str, Any], aliases: Mapping[str, str], entries: Sequence[Entry], state: State
) -> str:
    """HTML. versions: number -> MLflow's version, the newest first; entries: the ledger, the oldest first."""
    dice = {number: dice_of(version.tags) for number, version in versions.items()}
    known = [value for found in dice.values() if found for value in found]
    span = (min(known), max(known)) if known else (0.0, 1.0)
    rows = "\n".join(_version(number, version, dice[number], span, aliases) for number, version in versions.items())
    decided = "\n".join(_entry(entry, entry.number in state.void) for entry in reversed(entries))
    champion = f"Version {escape(state.champion)} is champion." if state.champion else "There is no champion."
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(name)}</title><style>{STYLE}</style></head><body>
<h1>{escape(name)}</h1>
<p>{champion} For research use only; not a medical device.</p>
<h2>Versions</h2>
<div class="scroll"><table><thead><tr><th>version</th><th>test Dice, 95 % interval</th>
<th>{span[0]:.3f} to {span[1]:.3f}</th><th>registered</th><th>commit</th></tr></thead><tbody>
{rows}
</tbody></table></div>
<h2>Decisions</h2>
{decided or "<p>None yet.</p>"}
</body></html>
"""


def dice_of(tags: Mapping[str, str]) -> tuple[float, float, float] | None:
    """Low, mean, high; None where a tag is missing or no number, as in a version that somebody made by hand."""
    try:
        low, mean, high = (float(tags[f"test.dice{end}"]) for end in (".low", "", ".high"))
    except (KeyError, ValueError):
        return None
    return (low, mean, high) if all(map(isfinite, (low, mean, high))) else None


def _version(
    number: str,
    version: Any,
    dice: tuple[float, float, float] | None,
    span: tuple[float, float],
    aliases: Mapping[str, str],
) -> str:
    held = ", ".join(sorted(alias for alias, holder in aliases.items() if holder == number))
    shown = f"{dice[1]:.4f} ({dice[0]:.4f} to {dice[2]:.4f})" if dice else "not known"
    when = f"{datetime.fromtimestamp(version.creation_timestamp / 1000, UTC):%Y-%m-%d %H:%M} UTC"
    cells = [
        f"{escape(number)}{f' <b>{escape(held)}</b>' if held else ''}",
        shown,
        _interval(dice, span) if dice else "",
        when,
        f"<code>{escape(version.tags.get('hymunet.git_commit', '')[:12])}</code>",
    ]
    row = '<tr class="champion">' if "champion" in held else "<tr>"
    return f"{row}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _interval(dice: tuple[float, float, float], span: tuple[float, float]) -> str:
    scale = (WIDTH - 12) / (span[1] - span[0] or 1.0)
    low, mean, high = (6 + scale * (value - span[0]) for value in dice)
    middle = HEIGHT / 2
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{dice[0]:.4f} to {dice[2]:.4f}">'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="currentColor" stroke-width="2"/>'
        f'<circle cx="{mean:.1f}" cy="{middle}" r="4" fill="currentColor"/></svg>'
    )


def _entry(entry: Entry, void: bool) -> str:
    said = WORDS.get(entry.kind, entry.kind + ": version {0}").format(entry.version)
    place = "against" if entry.kind == "refuse" else "in place of"
    head = f"{entry.number}. {said}" + (f", {place} version {entry.against}" if entry.against else "")
    gates = "\n".join(
        f'<tr class="{"" if gate["passed"] else "failed"}"><td>{"passed" if gate["passed"] else "failed"}</td>'
        f"{''.join(f'<td>{escape(str(gate[key]))}</td>' for key in ('name', 'figure', 'threshold', 'why'))}</tr>"
        for gate in entry.decision.get("gates", [])
    )
    table = f'<div class="scroll"><table><tbody>{gates}</tbody></table></div>' if gates else ""
    note = " (void: another decision came first)" if void else ""
    reason = entry.reason or "no reason given"
    short = textwrap.shorten(reason, SHOWN, placeholder=" …")
    when = f"{entry.when[:16].replace('T', ' ')} UTC, {entry.by}"
    return (
        f'<details class="{escape(entry.kind)}{" void" if void else ""}"><summary>'
        f'<span class="when">{escape(when)}</span><b>{escape(head)}</b>{note}<span>{escape(short)}</span></summary>'
        f"<p>{escape(reason)}</p>{table}</details>"
    )
