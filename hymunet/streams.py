"""What a program prints is there when it is printed."""

import io
import sys


def by_line() -> None:
    """Through a pipe (`| tee log`, DVC's, a pod's log) as on a terminal: Python would keep some kilobytes back."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
