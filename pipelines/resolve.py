"""Which version an alias names now: a run's pods all use that one, whatever is promoted meanwhile."""

import argparse
import os
import sys
from pathlib import Path

from hymunet.addresses import said
from hymunet.registry.client import registry
from hymunet.registry.load import resolve
from pipelines import batch
from pipelines.outputs import Outputs
from pipelines.part import Part
from pipelines.verdicts import NOTHING, FailedForGood, for_good, hand_on
from pipelines.workspace import STORE_FAILED


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.resolve", description=__doc__)
    parser.add_argument("--model", required=True, help="models:/NAME@ALIAS or models:/NAME/VERSION")
    parser.add_argument("--run", help="the run's id; without it, nothing is recorded")
    parser.add_argument("--executor-input", required=True, help="Kubeflow's inputs and outputs, JSON")
    args = parser.parse_args(argv)
    outputs = Outputs.parse(args.executor_input)
    try:
        with Part(os.environ.get("HYMUNET_DVC_REMOTE"), args.run, "resolve").recorded():
            address = version_of(args.model)
    except (ValueError, OSError) as error:
        if not for_good(error):
            raise
        hand_on(FailedForGood.of("resolve", error), Path("no lock"), outputs)
        return 0
    outputs.parameter("version", address)
    outputs.artifact("lock", NOTHING)
    outputs.save()
    print(f"predict: {args.model} is {address}")
    return 0


def version_of(model: str) -> str:
    found = batch.require_version(model)
    with registry(make=False) as client:
        version = resolve(client, found)
    return f"models:/{version.name}/{version.version}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        print(f"predict: {said(error)}", file=sys.stderr)
        sys.exit(STORE_FAILED)
