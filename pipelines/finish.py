"""The exit handler: whatever happened, one page about the run, from the records that its steps left in the remote."""

import argparse
import html
import os
import sys
import tempfile
from pathlib import Path

from pipelines.outputs import Outputs
from pipelines.records import Record, Run
from pipelines.workspace import open_remote

STEPS = ["download", "prepare", "split", "validate", "train", "evaluate", "register"]
STYLE = (
    "body{font:15px/1.5 sans-serif;margin:2em}td,th{padding:.3em 1em;text-align:left}.bad{color:#a00;font-weight:600}"
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.finish", description=__doc__)
    parser.add_argument("--run", required=True)
    parser.add_argument("--executor-input", required=True, help="Kubeflow's inputs and outputs, JSON")
    parser.add_argument("--remote", default=os.environ.get("HYMUNET_DVC_REMOTE"))
    args = parser.parse_args(argv)
    outputs = Outputs.parse(args.executor_input)
    records, note = told(args.remote, args.run)
    print(f"{table(records)}\n{note}".rstrip())
    outputs.artifact("report", page(args.run, records, note))
    outputs.save()
    return 0


def told(remote: str, run: str) -> tuple[list[Record], str]:
    """The steps' records, and what to say where there are none: this page is wanted most when little else worked."""
    try:
        with open_remote(Path(tempfile.mkdtemp(prefix="hymunet-")), remote) as store:
            if records := Run(store, run).records():
                return records, ""
    except Exception as error:  # DVC's, the store's client's: whatever it is, it is the news
        reason = " ".join(str(error).split())
        return [], f"the records in {remote} cannot be read: {type(error).__name__}: {reason}"
    return [], "no step has left a record: the first one failed before it reached the store; its own log says why"


def in_order(records: list[Record]) -> list[Record]:
    known = {name: place for place, name in enumerate(STEPS)}
    return sorted(records, key=lambda record: (known.get(record.stage, len(known)), record.stage))


def table(records: list[Record]) -> str:
    """One line a step, for a terminal."""
    lines = [f"{'step':10} {'state':9} {'seconds':>8} {'program':>8} {'pulled':>14} {'made':>14}"]
    for r in in_order(records):
        numbers = f"{r.seconds:8.1f} {r.command_seconds:8.1f} {r.pulled_bytes:14,} {r.made_bytes:14,}"
        lines.append(f"{r.stage:10} {r.state:9} {numbers}  {r.reason}".rstrip())
    return "\n".join(lines)


def page(run: str, records: list[Record], note: str = "") -> str:
    """The same as HTML; needs nothing from elsewhere."""
    head = "<tr><th>step<th>state<th>seconds<th>of which its program<th>bytes pulled<th>bytes made<th>commit<th></tr>"
    rows = [
        f"<tr><td>{html.escape(r.stage)}<td class={'bad' if r.state in ('failed', 'rejected') else 'good'}>{r.state}"
        f"<td>{r.seconds:.1f}<td>{r.command_seconds:.1f}<td>{r.pulled_bytes:,}<td>{r.made_bytes:,}"
        f"<td><code>{html.escape(r.commit[:12])}</code><td>{html.escape(r.reason)}</tr>"
        for r in in_order(records)
    ]
    body = f"<h1>Run {html.escape(run)}</h1><table>{head}{''.join(rows)}</table>"
    body += f"<p class=bad>{html.escape(note)}</p>" if note else ""
    return f"<!doctype html><meta charset=utf-8><title>Run {html.escape(run)}</title><style>{STYLE}</style>{body}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        print(f"finish: {error}", file=sys.stderr)
        sys.exit(1)
