"""Brings the archives of `data.source` into a folder, hash-checked and unopened."""

import sys

from components.cli import arguments, guarded

PATHS = {"output": "data/raw"}


def main(argv: list[str] | None = None) -> None:
    args = arguments("download", __doc__, PATHS, argv)

    from hymunet import params
    from hymunet.data.acquire.download import download

    download(params.load(args.params, "data", changes=args.set).data, args.output)


if __name__ == "__main__":
    sys.exit(guarded("download", main))
