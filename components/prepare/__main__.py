"""Decodes and resizes every image and mask into memory-mapped arrays, with a manifest of facts."""

import sys

from components.cli import arguments, guarded

PATHS = {"raw": "data/raw", "output": "data/prepared"}


def main(argv: list[str] | None = None) -> None:
    args = arguments("prepare", __doc__, PATHS, argv)

    from hymunet import params
    from hymunet.data.prepare.prepare import prepare

    section = params.load(args.params, "prepare", changes=args.set).prepare
    prepare(
        args.raw,
        args.output,
        section.image_size,
        section.on_bad_pair,
        max_dropped=section.max_dropped,
        masks_on=section.masks_on,
        max_without_lesion=section.max_without_lesion,
        own=params.own_folder(args.params, args.set),
    )


if __name__ == "__main__":
    sys.exit(guarded("prepare", main))
