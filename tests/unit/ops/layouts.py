"""Whether an operator's results have the shapes, types and strides that its stand-in for the compiler names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.unit.ops.cases import Case


def assert_as_promised(backend: str, device: str) -> None:
    """Compiled code reads results by those strides, whatever the strides of what went in. Values are left alone: states
    may end in places that nothing reads."""
    case = Case(2, 6, 5, 17, 2, 3)
    packed = [tensor.to(device) for tensor in case.inputs()]
    grad = case.grad_y().to(device)
    for inputs, grad_y in ((packed, grad), ([_scattered(tensor) for tensor in packed], _scattered(grad))):
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        _check(torch.ops.hymunet.ss2d, (*leaves, backend, True))
        _check(torch.ops.hymunet.ss2d, (*inputs, backend, False))
        states = torch.ops.hymunet.ss2d(*inputs, backend, True)[1]
        _check(torch.ops.hymunet.ss2d_backward, (grad_y, states, *inputs, backend))


def _check(operator: Callable, arguments: tuple) -> None:
    torch.library.opcheck(
        operator, arguments, test_utils=("test_schema", "test_autograd_registration", "test_faketensor")
    )


def _scattered(tensor: Tensor) -> Tensor:
    """The same values with the dimensions the other way round in memory."""
    order = tuple(reversed(range(tensor.dim())))
    return tensor.permute(order).contiguous().permute(order)
