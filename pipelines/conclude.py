"""The last step: fails the run, without another try, where a step before it failed for good."""

import argparse
import sys

from pipelines.outputs import Outputs
from pipelines.verdicts import FailedForGood


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.conclude", description=__doc__)
    parser.add_argument("--executor-input", required=True, help="Kubeflow's inputs and outputs, JSON")
    args = parser.parse_args(argv)
    for lock in Outputs.parse(args.executor_input).inputs("lock"):
        if failed := FailedForGood.read(lock):
            print(f"conclude: {failed}", file=sys.stderr)
            return 1
    print("conclude: every step succeeded")
    return 0


if __name__ == "__main__":
    sys.exit(main())
