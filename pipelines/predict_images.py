"""Segments every image of a folder or bucket, part by part, and says how far they are from the training's.

A part is some hundred images: its masks, then its rows, are written before the next begins, so that a pod that takes
over goes on with the next part. Another model, other images or other kinds of files are other parts, which take the
place of those before.
"""

import argparse
import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hymunet.addresses import said
from hymunet.evaluation import familiar
from hymunet.formats.kinds import NAMED, stem
from hymunet.formats.spreadsheet import quoted
from hymunet.places import lasting
from hymunet.prediction import drift, table
from hymunet.prediction.ensemble import Ensemble
from hymunet.prediction.run import Run
from hymunet.prediction.segmenter import TorchModel
from hymunet.prediction.sources import Entry
from hymunet.registry.load import open_segmenter
from pipelines import batch
from pipelines.bucket import Place
from pipelines.drift_page import page
from pipelines.outputs import Outputs, numbers
from pipelines.part import Part
from pipelines.reference import of_run
from pipelines.scratch import end_on_termination, scratch
from pipelines.verdicts import NOTHING, FailedForGood, for_good, hand_on, stopped_before
from pipelines.workspace import STORE_FAILED

IMAGES_A_PART = 256
PARTS, TABLE, REPORT = "parts", table.NAME, "drift.json"
VALID = f"{PARTS}/valid.json"  # names of the parts whose files are there as they were made: what came after took others
COLUMNS = (*table.COLUMNS, *familiar.SEEN)


class Measured(Run):
    """A run that looks at each image's light and colour while it is in memory."""

    def __init__(self, model: Ensemble, output: Path, wanted: Sequence[str]) -> None:
        super().__init__(model, output, wanted)
        self.seen: dict[str, dict[str, float]] = {}

    def _write(self, read: Any, computed: Any, seconds: float) -> dict[str, Any]:
        self.seen[read.entry.name] = familiar.seen(read.image)
        return super()._write(read, computed, seconds)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.predict_images", description=__doc__)
    parser.add_argument("--model", required=True, help="models:/NAME/VERSION")
    parser.add_argument("--source", required=True, help="s3://bucket/prefix, or a folder")
    parser.add_argument("--target", required=True, help="s3://bucket/prefix, or a folder")
    parser.add_argument("--save", default="mask", help="mask,overlay,probability,contours")
    parser.add_argument("--reference", default="", help="the pipeline run that trained the model; empty: no comparison")
    parser.add_argument("--run", help="the run's id; without it, nothing is recorded")
    parser.add_argument("--executor-input", required=True, help="Kubeflow's inputs and outputs, JSON")
    parser.add_argument("--remote", default=os.environ.get("HYMUNET_DVC_REMOTE"))
    args = parser.parse_args(argv)
    outputs = Outputs.parse(args.executor_input)
    if stopped_before("predict", outputs):
        return 0
    try:
        with Part(args.remote, args.run, "predict").recorded():
            told = predict(args.model, Place(args.source), Place(args.target), args.save, args.reference, args.remote)
    except (ValueError, OSError) as error:
        if not for_good(error):
            raise
        hand_on(FailedForGood.of("predict", error), Path("no lock"), outputs)
        return 0
    found = numbers({name: value for name, value in told.items() if name != "problems"})
    outputs.artifact("report", page(told))
    outputs.artifact("metrics", json.dumps(told, indent=1), **found)
    outputs.artifact("lock", NOTHING)
    outputs.save()
    print(json.dumps(told, indent=1))
    return 0


def predict(model: str, source: Place, target: Place, save: str, reference: str, remote: str) -> dict[str, Any]:
    """Writes files, predictions.csv and drift.json into `target`; returns what the last one says.

    Images that cannot be read are named in it, and stop nothing. ValueError where there is no image at all.
    """
    wanted = batch.kinds(save)
    batch.require_apart(source.address, target.address)
    inside = f"{os.path.relpath(target.root, source.root)}/"
    there = {name: tag for name, tag in source.versions().items() if NAMED.search(name) and not name.startswith(inside)}
    if not there:
        raise ValueError(f"{source.address}: no image in it")
    opened, decides = open_segmenter(model)
    segmenter = Ensemble([TorchModel(opened, decides)])
    known = of_run(reference, remote, opened.info.get("data_sha256")) if reference else None
    rows: list[dict[str, str]] = []
    problems: list[str] = []
    computed, names = 0, sorted(there)
    parts: dict[str, list[str]] = {}
    for start in range(0, len(names), IMAGES_A_PART):
        part = names[start : start + IMAGES_A_PART]
        parts[f"{PARTS}/{_key(segmenter, wanted, {name: there[name] for name in part})}.json"] = part
    found = target.versions()
    before = json.loads(target.read(VALID)) if VALID in found else []
    valid = [place for place in before if place in parts and place in found]
    for place, part in parts.items():
        if place not in valid:
            target.write(VALID, json.dumps(valid).encode())
            made, withheld = _part(segmenter, source, target, part, wanted)
            target.write(place, json.dumps(made).encode())
            if not withheld:  # the same images may be given to the next run
                valid.append(place)
            computed += len(part)
        told = json.loads(target.read(place))
        rows += told["rows"]
        problems += told["problems"]
        print(f"predict: {len(rows) + len(problems):,} of {len(names):,} images", flush=True)
    if computed:
        target.write(VALID, json.dumps(valid).encode())
    target.write(TABLE, _table(rows))
    report = {"model": model, "images": len(rows), "computed": computed, "problems": problems, "drift": None}
    report["confidence"] = _spread([float(row["confidence"]) for row in rows]) if rows else None
    if known and rows:
        report["drift"] = drift.compare(known, [_measures(row) for row in rows])
    target.write(REPORT, json.dumps(report, indent=2).encode())
    return report


def _part(
    segmenter: Ensemble, source: Place, target: Place, names: Sequence[str], wanted: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """Segments these images, whose files are in `target` when it returns; with those that the source does not give.

    OSError where the source fails: that says nothing of an image.
    """
    withheld: list[str] = []
    entries = [_entry(source, name, withheld) for name in names]
    with scratch() as output:
        run = Measured(segmenter, output, wanted)
        try:
            outcome = run.over(entries)
        except _SourceFailed as failed:
            raise ConnectionError(str(failed)) from failed
        for path in sorted(output.rglob("*")):
            if path.is_file() and path.name != table.NAME:
                target.write(path.relative_to(output).as_posix(), path.read_bytes())
        rows = [{**row, **{name: str(v) for name, v in run.seen[row["name"]].items()}} for row in run.table.rows()]
    return {"rows": rows, "problems": outcome.problems}, withheld


class _SourceFailed(Exception):
    """Passes through what takes an OSError for a fault of the image."""


def _entry(source: Place, name: str, withheld: list[str]) -> Entry:
    """withheld: gets the name of an image that is gone, or is not allowed to be read."""
    shown = f"{source.address}/{name}"
    if {"", ".", ".."} & set(name.split("/")):  # a bucket takes any text for a name
        return Entry("", shown, bytes, f"{shown}: its name leads elsewhere; rename it")

    def read() -> bytes:
        try:
            return source.read(name)
        except OSError as error:
            if not lasting(error):
                raise _SourceFailed(f"{shown}: {error.strerror or error}") from error
            withheld.append(name)
            raise

    return Entry(_apart(name), shown, read)


def _apart(name: str) -> str:
    """Its ending stays, as a_jpg: a.jpg, a.JPG and a.png lie beside each other in buckets."""
    return f"{stem(name)}_{name.rpartition('.')[2]}" if "." in name else name


def _key(segmenter: Ensemble, wanted: Sequence[str], there: dict[str, str]) -> str:
    text = json.dumps([segmenter.facts, list(wanted), sorted(there.items())], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _table(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in sorted(rows, key=lambda row: row["name"]):
        writer.writerow({name: quoted(value) for name, value in row.items()})
    return text.getvalue().encode("utf-8")


def _measures(row: dict[str, str]) -> dict[str, float]:
    seen = {name: float(row[name]) for name in familiar.SEEN}
    return drift.measured(int(row["width"]), int(row["height"]), float(row["area_fraction"]), seen)


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": ordered[len(ordered) // 2],
        "lowest_tenth": ordered[len(ordered) // 10],
        "under_0.8": round(sum(value < 0.8 for value in values) / len(values), 4),
    }


if __name__ == "__main__":
    end_on_termination()
    try:
        sys.exit(main())
    except OSError as error:
        print(f"predict: {said(error)}", file=sys.stderr)
        sys.exit(STORE_FAILED)
