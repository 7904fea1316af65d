"""Pipelines compiled in a process that has imported much else."""

import inspect
import sys
from collections.abc import Iterator

import pytest


def frames(context: int = 0) -> list[inspect.FrameInfo]:
    """The stack as `inspect.stack` gives it, without the lines of source."""
    frame, found = sys._getframe(1), []
    while frame is not None:
        code = frame.f_code
        found.append(inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None))
        frame = frame.f_back  # type: ignore[assignment]
    return found


@pytest.fixture(scope="module", autouse=True)
def stack_without_source() -> Iterator[None]:
    """kfp asks for the stack a hundred times to learn the caller's name; its source is looked for in all modules that
    are loaded, which takes a test's process 15 seconds a pipeline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect, "stack", frames)
        yield
