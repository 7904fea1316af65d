"""A function of tensors as one CUDA graph, and the choice of how a training's step runs: plain, compiled, captured."""

import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hymunet.training.device import require_compilers
from hymunet.training.progress import told
from hymunet.training.state import Tensors
from hymunet.training.step import Step

WARM_UP = 3  # calls before a capture, in which libraries allocate and kernels compile
Run = Callable[[Tensors], Any]

log = logging.getLogger("hymunet.training")


def send(tensors: Tensors, device: torch.device) -> Tensors:
    """To the device, through pinned memory, so that the copies wait for nothing."""
    if device.type != "cuda":
        return tensors
    return {name: _pinned(tensor).to(device, non_blocking=True) for name, tensor in tensors.items()}


class Graph:
    """All that `function(inputs)` does on the device, replayed at once: inputs are copied into fixed buffers, results
    appear in fixed places.

    The function may change other tensors in place; what it allocates lives in the graph. It must ask nothing of the
    host: a RuntimeError says so. Numbers that it takes from torch's generator are those of `torch.manual_seed` before a
    call.
    """

    def __init__(self, function: Run, inputs: Tensors, device: torch.device) -> None:
        self.inputs = send(inputs, device)
        warm_up(lambda: function(self.inputs))
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.result = function(self.inputs)

    def __call__(self, inputs: Tensors) -> Any:
        for name, tensor in inputs.items():
            self.inputs[name].copy_(_pinned(tensor), non_blocking=True)
        self.graph.replay()
        return self.result


def warm_up(function: Callable[[], Any]) -> None:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream().wait_stream(stream)


@contextmanager
def preserved(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Afterwards the tensors are as they were, whatever happened to them."""
    kept = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)


class Engine:
    """How a step runs on a device, found out with the first batch and said in a line each.

    compile: auto compiles on a GPU and goes on without where that fails; required raises ValueError instead.
    stopping: whether the process was told to stop; then a compiler that dies is no reason to go on without it.
    """

    def __init__(
        self, step: Step, compile: Literal["auto", "off", "required"], device: torch.device, say: Callable[[str], None]
    ) -> None:
        self.step, self.mode, self.device, self.say = step, compile, device, say
        self.stopping: Callable[[], bool] = lambda: False
        self.captured = False

    @property
    def name(self) -> str:
        """For the run's record, once it is prepared."""
        return " and ".join(self._names()) or "plain"

    def prepare(self, inputs: Tensors) -> Run:
        """Leaves the step's state as it was."""
        on_gpu = self.device.type == "cuda"
        compile = self.mode == "required" or (self.mode == "auto" and on_gpu)
        if not compile and not on_gpu:
            return self.step
        start = time.monotonic()
        if compile:
            self.say("compiling the step: one to three minutes the first time, seconds once its compiled code is kept")
        self.step.create_state()
        run: Run | None = None
        with preserved(self.step.state()), told(self.say, "compiling the step"):
            if compile:
                self._compile(inputs)
            if on_gpu and self.step.ranks.count == 1:
                run = self._capture(inputs)
            elif on_gpu:
                self.say("the step of several ranks is not captured: their gradients meet through DDP")
        if names := self._names():
            self.say(f"step {' and '.join(names)} in {time.monotonic() - start:.0f} s")
        return run or (lambda tensors: self.step(send(tensors, self.device)))

    def prepare_validation(self, capture: Callable[..., None], model: nn.Module) -> None:
        """In the manner of the step; `capture` is that of Validation."""
        if not self.captured:
            return
        for compiled in (True, False) if self.step.compiled else (False,):
            try:
                with told(self.say, "compiling the validation"):
                    return capture(model, self.step.autocast, compiled=compiled)
            except Exception as error:
                if self.stopping():
                    raise
                how = "compiled" if compiled else "captured"
                log.warning("the validation cannot be %s and runs without (%s)", how, _line(error))

    def _compile(self, inputs: Tensors) -> None:
        try:
            require_compilers(self.device)
            self.step.compile()
            self.step(send(inputs, self.device))
        except Exception as error:
            self.step.optimizer.zero_grad(set_to_none=True)
            if self.stopping() or (self.mode == "required" and isinstance(error, ValueError)):
                raise
            if self.mode == "required":
                raise ValueError(
                    f"train.compile required: the step does not compile ({_line(error)}); set train.compile to off"
                ) from error
            log.warning("the step does not compile and runs without (%s)", _line(error))
            self.step.compile(False)

    def _capture(self, inputs: Tensors) -> Run | None:
        try:
            graph = Graph(self.step, inputs, self.device)
        except RuntimeError as error:
            self.step.optimizer.zero_grad(set_to_none=True)
            if self.stopping():
                raise
            log.warning("the step cannot be captured as a CUDA graph and runs one kernel at a time (%s)", _line(error))
            gc.collect()
            return None
        self.captured = True
        return graph

    def _names(self) -> list[str]:
        return ["compiled"] * self.step.compiled + ["captured"] * self.captured


def _pinned(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_pinned() or tensor.is_cuda else tensor.pin_memory()


def _line(error: BaseException) -> str:
    """Type and first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"
