"""The selective scan in ONNX: the recurrence itself, by ONNX's operator Scan, whose state stays in the cache.

Spelled out in stock operators over chunks (hymunet/ops/export.py) it moves every state through memory several times.
"""

from collections.abc import Callable
from typing import Any

import onnxscript
import torch
from onnxscript import FLOAT, graph
from onnxscript import opset18 as op


def translations() -> dict[Callable, Any]:
    """What torch.onnx.export is to write for the scan's operator: its `custom_translation_table`."""
    return {torch.ops.hymunet.ss2d.default: ss2d}


def ss2d(
    x: FLOAT, proj: FLOAT, A: FLOAT, dt_weight: FLOAT, dt_bias: FLOAT, D: FLOAT, backend: str, keep: bool
) -> tuple[FLOAT, FLOAT]:
    """The operator's two results; the second one, states for a gradient, is empty."""
    return selective_scan(x, proj, A, dt_weight, dt_bias, D), op.Constant(value_floats=[0.0])


@onnxscript.script()
def selective_scan(x: FLOAT, proj: FLOAT, A: FLOAT, dt_weight: FLOAT, dt_bias: FLOAT, D: FLOAT) -> FLOAT:
    """hymunet.ops.ss2d for any batch and size; directions stand in the order 0, 2, 1, 3: forward ones first."""
    batch, channels = op.Shape(x, start=0, end=1), op.Shape(x, start=3, end=4)
    states, rank = op.Shape(A, start=2, end=3), op.Shape(dt_weight, start=2, end=3)
    features = op.Shape(proj, start=4, end=5)
    first, last, back, one = (
        op.Constant(value_ints=[-1]),
        op.Constant(value_ints=[-9223372036854775807]),
        op.Constant(value_ints=[-1]),
        op.Constant(value_ints=[1]),
    )
    rows, columns = op.Constant(value_ints=[1]), op.Constant(value_ints=[2])

    # u: (B, 4, L, C), the pixels in the order of each direction's walk.
    line = op.Concat(batch, first, channels, axis=0)
    u0 = op.Reshape(x, line)
    u2 = op.Reshape(op.Transpose(op.Slice(x, first, last, columns, back), perm=[0, 2, 1, 3]), line)
    u13 = op.Concat(op.Unsqueeze(u0, one), op.Unsqueeze(u2, one), axis=1)
    u = op.Concat(u13, op.Slice(u13, first, last, columns, back), axis=1)  # directions 0, 2, 1, 3

    lines = op.Concat(batch, first, features, axis=0)
    p0, p1, p2, p3 = op.Split(proj, num_outputs=4, axis=3)
    side = op.Constant(value_ints=[3])
    q0 = op.Reshape(p0, lines)
    q1 = op.Slice(op.Reshape(p1, lines), first, last, rows, back)
    t2 = op.Transpose(op.Slice(op.Squeeze(p2, side), first, last, columns, back), perm=[0, 2, 1, 3])
    t3 = op.Transpose(op.Slice(op.Squeeze(p3, side), first, last, columns, back), perm=[0, 2, 1, 3])
    q2 = op.Reshape(t2, lines)
    q3 = op.Slice(op.Reshape(t3, lines), first, last, rows, back)
    q = op.Concat(
        op.Unsqueeze(q0, one), op.Unsqueeze(q2, one), op.Unsqueeze(q1, one), op.Unsqueeze(q3, one), axis=1
    )  # (B, 4, L, R + 2N)
    dt, b, c = op.Split(q, op.Concat(rank, states, states, axis=0), axis=3)

    order = op.Constant(value_ints=[0, 2, 1, 3])
    weight = op.Transpose(op.Gather(dt_weight, order, axis=0), perm=[0, 2, 1])
    bias = op.Unsqueeze(op.Gather(dt_bias, order, axis=0), one)
    raw = op.Add(op.MatMul(dt, weight), bias)
    # Softplus, whose own operator is slower in ONNX Runtime than these; to 6e-8.
    delta = op.Add(op.Relu(raw), op.Log(op.Add(op.Exp(op.Neg(op.Abs(raw))), op.Constant(value_float=1.0))))
    decay = op.Transpose(op.Gather(A, order, axis=0), perm=[0, 2, 1])  # (4, N, C)

    # One step after the other: (L, B, 4, ...).
    deltas = op.Unsqueeze(op.Transpose(delta, perm=[2, 0, 1, 3]), side)
    inputs = op.Unsqueeze(op.Transpose(op.Mul(delta, u), perm=[2, 0, 1, 3]), side)
    bs = op.Unsqueeze(op.Transpose(b, perm=[2, 0, 1, 3]), op.Constant(value_ints=[4]))
    cs = op.Unsqueeze(op.Transpose(c, perm=[2, 0, 1, 3]), side)
    four = op.Constant(value_ints=[4])
    start = op.Expand(op.Constant(value_float=0.0), op.Concat(batch, four, states, channels, axis=0))

    @graph()
    def step(h, d, added, b_t, c_t):
        h_next = op.Add(op.Mul(op.Exp(op.Mul(d, decay)), h), op.Mul(added, b_t))
        y_t = op.MatMul(c_t, h_next)
        return h_next, y_t

    _, ys = op.Scan(start, deltas, inputs, bs, cs, body=step, num_scan_inputs=4)
    scanned = op.Transpose(op.Squeeze(ys, side), perm=[1, 2, 0, 3])  # (B, 4, L, C)
    skip = op.Unsqueeze(op.Gather(D, order, axis=0), one)
    y = op.Add(scanned, op.Mul(skip, u))

    forward, backward = op.Split(y, num_outputs=2, axis=1)
    both = op.Add(forward, op.Slice(backward, first, last, columns, back))  # (B, 2, L, C): by rows, by columns
    by_rows, by_columns = op.Split(both, num_outputs=2, axis=1)
    height, width = op.Shape(x, start=1, end=2), op.Shape(x, start=2, end=3)
    upright = op.Transpose(op.Reshape(by_columns, op.Concat(batch, width, height, channels, axis=0)), perm=[0, 2, 1, 3])
    result = op.Add(op.Reshape(by_rows, op.Shape(x)), op.Slice(upright, first, last, columns, back))
    return result
