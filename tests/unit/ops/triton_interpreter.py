"""Runs scans under Triton's interpreter, in a process of its own because TRITON_INTERPRET is read at import:
`python -m tests.unit.ops.triton_interpreter CASE SETTINGS` with JSON objects of `Case` fields and of what in the plan
is another than for a GPU. Fails where the kernels disagree with the float64 reference."""

from __future__ import annotations

import json
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor

from hymunet.ops import ss2d
from hymunet.ops import triton as backend
from tests.unit.ops.cases import NAMES, Case, assert_agrees, expected


def run(case: Case) -> list[Tensor]:
    inputs = [tensor.requires_grad_() for tensor in case.inputs()]
    y = ss2d(*inputs, backend="triton")
    with torch.no_grad():  # keeps no states
        assert torch.equal(ss2d(*inputs, backend="triton"), y)
    return [y.detach(), *torch.autograd.grad(y, inputs, case.grad_y())]


if __name__ == "__main__":
    fields = json.loads(sys.argv[1])
    case = Case(**{**fields, "dtype": getattr(torch, fields["dtype"])})
    for name, setting in json.loads(sys.argv[2]).items():
        setattr(backend, name, setting)
    results = run(case)
    wanted, wanted_grads = expected(case)
    for name, actual, value in zip(("y", *NAMES), results, (wanted, *wanted_grads), strict=True):
        # The interpreter truncates to bfloat16 where a GPU rounds: every direction's part, and their sum.
        assert_agrees(name, actual, value, roundings=4 if case.dtype == torch.bfloat16 else 1)
    plan = backend._plan_backward(case.B, case.H * case.W, case.C, case.N)
    print(json.dumps({"segments": plan.segments, "shares": case.N // plan.own, "relay": plan.relay}))
