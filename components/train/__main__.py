"""Trains the model of params.yaml on the prepared images; the best weights by validation Dice are kept.

Interrupted at any moment, the same command goes on where it stopped and ends with the same bytes; after SIGTERM it
exits with code 75, "run me again". It starts one process a visible GPU, or HYMUNET_RANKS processes.
"""

import sys

from components import cli

PATHS = {
    "prepared": "data/prepared",
    "split": "data/split/split.csv",
    "verdict": "reports/validation/verdict.json",
    "model": "artifacts/model",
    "reports": "reports/training",
}


def main(argv: list[str] | None = None) -> int:
    arguments = cli.arguments("train", __doc__, PATHS, argv, written=("model", "reports"))
    from hymunet import params
    from hymunet.data.check.verdict import require_passed
    from hymunet.training import launch

    sections = params.load(arguments.params, "model", "train", changes=arguments.set)
    require_passed(arguments.verdict, arguments.prepared, arguments.split)

    launch.die_with_launcher()
    ranks, nodes = launch.ranks_wanted(), launch.Nodes.named()
    if ranks * nodes.count > 1:
        launch.require_shares(sections.train.batch_size, sections.train.accumulate, ranks * nodes.count)
        return launch.launch("components.train", sys.argv[1:] if argv is None else argv, ranks, nodes)

    from hymunet.training import checkpoint_store, trainer

    paths = trainer.Paths(
        prepared=arguments.prepared,
        split=arguments.split,
        model=arguments.model,
        reports=arguments.reports,
        checkpoints=checkpoint_store.location(),
    )
    return trainer.train(sections.model, sections.train, paths)


if __name__ == "__main__":
    sys.exit(cli.guarded("train", main))
