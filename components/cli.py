"""What the seven step programs share: paths as options, and errors as one line."""

import argparse
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hymunet import compiled_parts, extras
from hymunet.addresses import without_secrets
from hymunet.places import Parser, in_words, lasting, require_folder
from hymunet.processors import limit_threads
from hymunet.streams import by_line

FAULT, IO_FAILED = 70, 74  # of sysexits.h


def arguments(
    step: str,
    description: str | None,
    paths: Mapping[str, str],
    argv: list[str] | None = None,
    written: Sequence[str] = ("output",),
) -> argparse.Namespace:
    """Parses `--params`, `--set` and one option per path; `paths`: an option's name and its default, as in dvc.yaml.

    Raises ValueError where a folder of `written` cannot be made or may not be written to: before anything is done.
    """
    parser = Parser(
        prog=f"python -m components.{step}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="the parameters, all sections")
    parser.add_argument(
        "-S", "--set", action="append", default=[], metavar="KEY=VALUE", help="one of them changed: train.epochs=2"
    )
    for name, default in paths.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, default=Path(default), help="path")
    parsed = parser.parse_args(argv)
    for name in written:
        require_folder(getattr(parsed, name))
    return parsed


def guarded(step: str, main: Callable[[], int | None]) -> int:
    """Runs a step, and says by the exit code whether running it again may help.

    1: what a user can get wrong, in one line on standard error; a file that is missing or not allowed, too. 74: a disk,
    a store or a server failed, in one line.
    70: anything else (a device, a neighbouring rank, a fault of ours), with its traceback. A step may return its own
    code (training returns 75, "resume me", after SIGTERM). What it imports is held to the processors that it may use.
    """
    limit_threads()
    by_line()
    try:
        compiled_parts.require_current()
        return main() or 0
    except OSError as error:
        print(f"{step}: {without_secrets(in_words(error))}", file=sys.stderr)
        return 1 if lasting(error) else IO_FAILED
    except ValueError as error:
        print(f"{step}: {without_secrets(str(error))}", file=sys.stderr)
        return 1
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and (line := extras.missing(error, step)):
            print(f"{step}: {line}", file=sys.stderr)
            return 1
        print(without_secrets(traceback.format_exc()), end="", file=sys.stderr)
        return FAULT
    except KeyboardInterrupt:
        print(f"{step}: interrupted", file=sys.stderr)
        return 130
