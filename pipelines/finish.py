"""The exit handler: whatever happened, one page about the run, from the records that its steps left in the remote.

By hand the same, where Kubeflow ended a run without its exit handler: python -m pipelines.finish --run RUN --remote s3://…
"""

import argparse
import html
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from hymunet.addresses import said, without_secrets
from pipelines.outputs import Outputs
from pipelines.records import BAD, BEGUN, Record, Run
from pipelines.workspace import add_remote, open_remote

STEPS = ["download", "prepare", "split", "validate", "train", "evaluate", "register"]
DATA = STEPS[:4]
MISSING = "not begun"
GOOD = ("computed", "restored")
WELL = ("succeeded", "what is recorded ended well")  # by hand it is not known which parts there should be
STYLE = (
    "body{font:15px/1.5 sans-serif;margin:2em}td,th{padding:.3em 1em;text-align:left}.bad{color:#a00;font-weight:600}"
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.finish", description=__doc__)
    parser.add_argument("--run", required=True)
    parser.add_argument("--parts", type=json.loads, default=[], help="of the run, as JSON; default: those recorded")
    parser.add_argument("--sets", type=json.loads, default=[], help="of a study, as JSON: their data are runs RUN-SET")
    parser.add_argument("--executor-input", help="Kubeflow's inputs and outputs, JSON; without it, the table alone")
    add_remote(parser)
    args = parser.parse_args(argv)
    parts = [f"{name}/{stage}" for name in args.sets for stage in DATA] + args.parts
    records, note = told(args.remote, args.run, args.sets, parts, keep=args.executor_input is not None)
    print(f"{table(records, parts)}\n{note}")
    if args.executor_input:
        outputs = Outputs.parse(args.executor_input)
        outputs.artifact("report", page(args.run, records, parts, note))
        outputs.save()
    return 0


def told(remote: str, run: str, sets: list[str], parts: list[str], keep: bool) -> tuple[list[Record], str]:
    """The steps' records, and how the run ended. keep: the outcome, in the run's folder.

    Raises nothing: this page is wanted most when little else worked.
    """
    try:
        with (
            tempfile.TemporaryDirectory(prefix="hymunet-finish-") as folder,
            open_remote(Path(folder), remote) as store,
        ):
            own = Run(store, run)
            records = own.records()
            for name in sets:
                made = Run(store, f"{run}-{name}").records()
                records += [replace(record, stage=f"{name}/{record.stage}") for record in made]
            note = outcome(records, parts)
            if keep and records:
                own.write_outcome(note)
            return records, note
    except Exception as error:  # DVC's, the store's client's: whatever it is, it is the news
        return [], f"the records in {without_secrets(remote)} cannot be read: {type(error).__name__}: {said(error)}"


def outcome(records: list[Record], parts: list[str]) -> str:
    """In one line: succeeded; failed, with the first reason; or stopped, and where."""
    if not records:
        return "no step has left a record: the first one failed before it reached the store; its own log says why"
    there = {record.stage: record for record in records}
    missing = [name for name in parts if name not in there]
    rest = f"; {len(missing)} of {len(parts)} parts did not begin" if missing else ""
    ordered = in_order(records, parts)
    if bad := [record for record in ordered if record.state in BAD]:
        first = f"{bad[0].stage} {bad[0].state}{': ' if bad[0].reason else ''}{bad[0].reason}"
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        return f"failed: {first}{more}{rest}"
    if begun := [record.stage for record in ordered if record.state == BEGUN]:
        return f"stopped: {', '.join(begun[:5])} began and {'has' if len(begun) == 1 else 'have'} no end{rest}"
    if missing:
        return f"stopped before {missing[0]}{rest}"
    return WELL[0] if parts else WELL[1]


def in_order(records: list[Record], parts: list[str]) -> list[Record]:
    known = {name: place for place, name in enumerate(parts)}
    return sorted(records, key=lambda record: (known.get(record.stage, len(known)), record.stage))


def rows(records: list[Record], parts: list[str]) -> list[Record]:
    """Every part's record; an empty one for what has not begun."""
    there = {record.stage for record in records}
    absent = [Record(name, MISSING, 0, 0, 0, 0, "") for name in parts if name not in there] if records else []
    return in_order(records + absent, parts)


def table(records: list[Record], parts: list[str]) -> str:
    """One line a step, for a terminal."""
    shown = rows(records, parts)
    width = max([10, *(len(record.stage) for record in shown)])
    lines = [f"{'step':{width}} {'state':9} {'seconds':>8} {'program':>8} {'pulled':>14} {'made':>14}"]
    for r in shown:
        numbers = f"{r.seconds:8.1f} {r.command_seconds:8.1f} {r.pulled_bytes:14,} {r.made_bytes:14,}"
        lines.append(f"{r.stage:{width}} {r.state:9} {numbers}  {r.reason}".rstrip())
    return "\n".join(lines)


def page(run: str, records: list[Record], parts: list[str], note: str) -> str:
    """The same as HTML; needs nothing from elsewhere."""
    head = "<tr><th>step<th>state<th>seconds<th>of which its program<th>bytes pulled<th>bytes made<th>commit<th></tr>"
    lines = [
        f"<tr><td>{html.escape(r.stage)}<td class={'good' if r.state in GOOD else 'bad'}>{r.state}"
        f"<td>{r.seconds:.1f}<td>{r.command_seconds:.1f}<td>{r.pulled_bytes:,}<td>{r.made_bytes:,}"
        f"<td><code>{html.escape(r.commit[:12])}</code><td>{html.escape(r.reason)}</tr>"
        for r in rows(records, parts)
    ]
    kind = "good" if note in WELL else "bad"
    body = (
        f"<h1>Run {html.escape(run)}</h1><p class={kind}>{html.escape(note)}</p><table>{head}{''.join(lines)}</table>"
    )
    return f"<!doctype html><meta charset=utf-8><title>Run {html.escape(run)}</title><style>{STYLE}</style>{body}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        print(f"finish: {said(error)}", file=sys.stderr)
        sys.exit(1)
