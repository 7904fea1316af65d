"""The last step of a study: its tables and pictures from every cell's result, on one page.

Where cells failed for good the page says so, and the step after this one fails the run.
"""

import argparse
import csv
import html
import io
import json
import sys
from pathlib import Path
from typing import Any

from hymunet.addresses import said
from hymunet.study import data, documents, state
from hymunet.study.data import Places
from hymunet.study.plan import Plan
from hymunet.study.store import Store
from pipelines import dvc_compat as dvc
from pipelines.outputs import Outputs
from pipelines.part import Part
from pipelines.scratch import end_on_termination, workplace
from pipelines.step import SOURCE
from pipelines.study_cell import SMALL, shared
from pipelines.study_text import LAST, unpacked
from pipelines.verdicts import NOTHING, FailedForGood, for_good, hand_on
from pipelines.workspace import STORE_FAILED, Workspace, add_remote

STYLE = "body{font:15px/1.5 sans-serif;margin:2em}td,th{padding:.2em .8em;text-align:left}.bad{color:#a00}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.study_tables", description=__doc__)
    parser.add_argument("--study", required=True, help="the study's text")
    parser.add_argument("--verdicts", required=True, help="of every cell, as JSON")
    parser.add_argument("--run", help="the run's id; without it, nothing is recorded")
    parser.add_argument("--executor-input", required=True, help="Kubeflow's inputs and outputs, JSON")
    add_remote(parser)
    args = parser.parse_args(argv)
    outputs = Outputs.parse(args.executor_input)
    verdicts = [json.loads(text) for text in json.loads(args.verdicts)]
    try:
        with Part(args.remote, args.run, LAST).recorded():
            compare(args, outputs, verdicts)
    except (ValueError, OSError) as error:
        if not for_good(error):
            raise
        hand_on(FailedForGood.of(LAST, error), Path("no lock"), outputs)
    print(table(verdicts))
    return 0


def compare(args: argparse.Namespace, outputs: Outputs, verdicts: list[dict[str, Any]]) -> None:
    """The page, and a lock that says which cells have no result."""
    told = json.loads(outputs.inputs("data")[0].read_text(encoding="utf-8"))
    with workplace() as work:
        plan = unpacked(args.study, work / "study")
        if not told["failed"]:
            bring(plan, told["locks"], args.remote, work)
        outputs.artifact("report", page(plan.study.title, documents.build(plan), verdicts))
    without = [f"{one['cell']}: {one['reason']}" for one in verdicts if one["state"] in ("failed", "skipped")]
    failed = FailedForGood("cells", f"{len(without)} of {len(verdicts)} have no result: {'; '.join(without[:5])}")
    outputs.artifact("lock", failed.marked(Path("no lock")) if without else NOTHING)
    outputs.save()


def bring(plan: Plan, locks: dict[str, str], remote: str, work: Path) -> None:
    """Every cell's result into the study's folder."""
    store = Store(shared(remote))
    given = {}
    for name, lock in locks.items():
        project = Workspace(work / name, remote)
        project.create(SOURCE, json.dumps(plan.content(name)), [])
        project.lock.write_text(lock, encoding="utf-8")
        with project.repo() as repo:
            dvc.pull(repo, SMALL)
        given[name] = project.root / "data"
    places = Places(work, given)
    for name in locks:
        data.make(plan, name, places)
    for cell in plan.cells:
        store.take(state.expected(plan, cell, places.of(cell)), cell, plan.results(cell))


def table(verdicts: list[dict[str, Any]]) -> str:
    width = max(len(one["cell"]) for one in verdicts)
    return "\n".join(
        f"{one['cell']:{width}} {one['state']:9} {one['seconds']:8.1f} s  {one['reason']}".rstrip() for one in verdicts
    )


def page(title: str, files: dict[str, str], verdicts: list[dict[str, Any]]) -> str:
    """Needs nothing from elsewhere."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for name, text in files.items():
        if name.endswith(".csv"):
            parts.append(f"<h2>{html.escape(name.removesuffix('.csv'))}</h2>{_rows(csv.reader(io.StringIO(text)))}")
        elif name.endswith(".svg"):
            parts.append(text[text.index("<svg") :])
    bad = [one for one in verdicts if one["state"] in ("failed", "skipped")]
    parts.append(
        "<h2>Cells</h2>"
        + _rows([list(one) for one in verdicts[:1]] + [list(map(str, one.values())) for one in verdicts])
    )
    parts += [f"<p class=bad>{html.escape(one['cell'])}: {html.escape(one['reason'])}</p>" for one in bad]
    return (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>{''.join(parts)}"
    )


def _rows(rows: Any) -> str:
    shown = [f"<tr>{''.join(f'<td>{html.escape(cell)}' for cell in row)}</tr>" for row in rows]
    return f"<table>{''.join(shown)}</table>"


if __name__ == "__main__":
    end_on_termination()
    try:
        sys.exit(main())
    except (dvc.PullFailed, OSError) as error:
        print(f"study: {said(error)}", file=sys.stderr)
        sys.exit(STORE_FAILED)
