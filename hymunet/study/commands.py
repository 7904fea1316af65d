"""`hymunet study run | status | import | tables`. Heavy libraries are imported by the verb that needs them."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hymunet.places import require_folder

if TYPE_CHECKING:
    from hymunet.study.data import Places
    from hymunet.study.plan import Plan
    from hymunet.study.results import Result
    from hymunet.study.store import Store

WORK = Path("artifacts/studies")


def add(verb: argparse.ArgumentParser) -> None:
    """The verbs below `hymunet study`."""
    verbs = verb.add_subparsers(dest="study_verb", required=True, metavar="VERB")

    def one(name: str, run: object, text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.add_argument("study", type=Path, metavar="STUDY", help="its folder: studies/comparison")
        added.set_defaults(run=run)
        return added

    def with_places(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added.add_argument("--work", type=Path, help=f"checkpoints, weights, logs, data ({WORK}/NAME)")
        given = "a folder as the pipeline's data/, holding prepared/ and split/, in place of data that are made here"
        added.add_argument("--data", action="append", default=[], metavar="SET=FOLDER", help=given)
        only = "cells whose names fit: isic2018/unet, '*/seed-0'; may be given again"
        added.add_argument("--only", action="append", default=[], metavar="PATTERN", help=only)
        return added

    run = with_places(one("run", run_study, "compute what the study lacks; goes on where it was stopped"))
    run.add_argument("--workers", type=int, help="cells at a time (one a visible GPU; 1 without)")
    run.add_argument("--closed", action="store_true", help="leave the test images alone until a later run scores them")
    run.add_argument("--missing", action="store_true", help="keep results of other code, data or settings as they are")
    shared = (
        "a folder or s3://bucket/prefix where machines share results: what is there is not computed, what is computed "
    )
    run.add_argument("--store", metavar="PLACE", help=f"{shared}is put there; a cluster's is DVC_REMOTE/study")
    where = "where images are: data.isic2018.mirror=DIR"
    run.add_argument("-S", "--set", action="append", default=[], metavar="KEY=VALUE", help=where)
    with_places(one("status", run_status, "what is done, stale, failed and missing, and why"))
    bring = with_places(one("import", run_import, "take in results that were computed elsewhere, checked"))
    bring.add_argument("folder", type=Path, metavar="FOLDER", help="holding results of this study, at any depth")
    tables = one("tables", run_tables, "write the tables and pictures of the results, beside them")
    tables.add_argument(
        "--into", action="append", default=[], type=Path, metavar="FILE.md", help="fill its blocks, too"
    )
    tables.add_argument("--check", action="store_true", help="write nothing; exit code 1 where files do not agree")


def _places(arguments: argparse.Namespace, planned: "Plan") -> "Places":
    from hymunet.study.data import Places

    given = {}
    for text in arguments.data:
        name, sign, folder = text.partition("=")
        if not sign or not folder:
            raise ValueError(f"--data {text}: expected SET=FOLDER")
        if name not in planned.study.sets:
            raise ValueError(f"--data {name}=…: no such set; there are: {', '.join(planned.study.sets)}")
        given[name] = Path(folder)
    folder = arguments.study if arguments.study.is_dir() else arguments.study.parent
    return Places(arguments.work or WORK / folder.resolve().name, given)


def run_study(arguments: argparse.Namespace) -> int:
    from hymunet.study import plan

    if arguments.workers is not None and arguments.workers < 1:
        raise ValueError(f"--workers {arguments.workers} must be at least 1")
    if arguments.store and arguments.closed:
        raise ValueError("--closed does not go with --store: the results that are shared there are tested")
    planned = plan.load(arguments.study, arguments.set)
    places = _places(arguments, planned)
    cells = planned.chosen(arguments.only)
    require_folder(places.work)

    from hymunet.study import board, data, run, state, store

    for images in dict.fromkeys(cell.images for cell in cells):
        data.make(planned, images, places)
    states = {cell: state.state(planned, cell, places) for cell in cells}
    closed = planned.withholds(arguments.closed)
    todo = run.to_do(states, closed, arguments.missing)
    shared = store.Store(arguments.store) if arguments.store else None
    if shared:
        taken, given = shared.exchange(planned, places, states, todo)
        print(f"{arguments.store}: {len(taken)} results taken, {len(given)} given", flush=True)
        todo = [cell for cell in todo if cell not in taken]
    print(f"{planned.study.title}: {len(cells)} cells: {board.totals(states)}; to compute: {len(todo)}", flush=True)
    for line in board.reasons({cell: states[cell] for cell in todo}):
        print(line)
    workers = arguments.workers or max(1, len(run.visible_gpus()))
    done = [lambda result: _give(shared, result)] if shared else []
    runner = run.Runner(planned, places, dict(states), workers, closed, *done)
    code = runner.run(todo)
    print(board.totals(runner.states))
    for line in board.reasons(runner.states):
        print(line, file=sys.stderr)
    return code


def _give(shared: "Store", result: "Result") -> None:
    """A store that is away costs no result: the next run gives it."""
    try:
        shared.put(result)
    except OSError as error:
        print(f"{result.record['cell']['name']}: is here, and could not be shared: {error}", file=sys.stderr)


def run_status(arguments: argparse.Namespace) -> None:
    from hymunet.study import plan

    planned = plan.load(arguments.study)
    places = _places(arguments, planned)

    from hymunet.study import board, state

    states = {cell: state.state(planned, cell, places) for cell in planned.chosen(arguments.only)}
    print(board.table(states, {}))
    print(board.totals(states))
    for line in board.reasons(states):
        print(line)


def run_import(arguments: argparse.Namespace) -> None:
    from hymunet.study import plan

    planned = plan.load(arguments.study)
    places = _places(arguments, planned)

    from hymunet.study import state

    chosen = planned.chosen(arguments.only)
    for line in state.take_in(planned, chosen, places, arguments.folder):
        print(line)


def run_tables(arguments: argparse.Namespace) -> int:
    from hymunet.study import plan

    planned = plan.load(arguments.study)

    from hymunet.study import documents

    if arguments.check:
        differing = documents.stale(planned, arguments.into)
        for file in differing:
            print(f"{file}: does not agree with the results; make results", file=sys.stderr)
        return int(bool(differing))
    changed = documents.write(planned, arguments.into)
    print("\n".join(changed) or f"{arguments.study}: nothing to change, all agrees with the results")
    return 0
