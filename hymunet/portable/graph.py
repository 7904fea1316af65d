"""What stands around a model's graph: from images of any size to the model's, and from its probabilities back.

Sizes are read from the images at run time. Both parts are ONNX in its own text form.
"""

import onnx
from onnx import compose, helper, parser

OPSET = 18
INPUT, OUTPUTS = "images", ("mask", "probability", "confidence")
_HEAD = f'<ir_version: 10, opset_import: ["" : {OPSET}]>'


def around(core: onnx.ModelProto, size: int, threshold: float) -> onnx.ModelProto:
    """core: uint8 `pixels` (N, size, size, 3) -> float32 `small` (N, size, size). The whole:

    `images` uint8 (N, H, W, 3) of any size -> `mask` uint8 (N, H, W) of 0 and 1, `probability` float32 (N, H, W),
    `confidence` float32 (N): the Dice between mask and probabilities, 0 without a mask.
    """
    before, after = parser.parse_model(_before(size)), parser.parse_model(_after(threshold))
    opset = next(entry.version for entry in core.opset_import if entry.domain in ("", "ai.onnx"))
    for part in (before, after):
        part.opset_import[0].version = opset
        part.ir_version = core.ir_version
    before, after = (
        compose.add_prefix(part, f"{name}/", rename_inputs=False, rename_outputs=False)
        for part, name in ((before, "before"), (after, "after"))
    )
    first = compose.merge_models(before, core, [("shrunk", "pixels")], outputs=["sides", "small"])
    whole = compose.merge_models(first, after, [("sides", "size"), ("small", "found")], outputs=list(OUTPUTS))
    onnx.checker.check_model(whole)
    return whole


def describe(model: onnx.ModelProto, facts: dict[str, str]) -> None:
    """`session.get_modelmeta().custom_metadata_map` gives them back."""
    helper.set_model_props(model, facts)


def _before(size: int) -> str:
    """Resizing as hymunet.images.resize: the mean over each pixel's area where both sides shrink, else linear.

    Both are matrices, one for each side: of how much of each old pixel lies in each new one. Of halves of a level the
    even one is taken, as OpenCV does, but for images that shrink to half, where it takes the upper one.
    """
    return f"""{_HEAD}
before (uint8[N, H, W, 3] images) => (uint8[N, {size}, {size}, 3] shrunk, int64[2] sides)
<int64 zero = {{0}}, int64 one = {{1}}, int64 side = {{{size}}}, double half = {{0.5}}, double none = {{0}},
 double unit = {{1}}, double new = {{{float(size)}}}, int64[1] last = {{1}}, int64[1] first = {{0}},
 float least = {{0}}, float most = {{255}}, double two = {{2}}, float up = {{0.5}}>
{{
  sides = Shape <start = 1, end = 3> (images)
  smallest = ReduceMin <keepdims = 0> (sides)
  shrinks = GreaterOrEqual (smallest, side)
  height = Gather (sides, zero)
  width = Gather (sides, one)
  {_matrix("height", "rows")}
  {_matrix("width", "columns")}
  n = Shape <start = 0, end = 1> (images)
  three = Shape <start = 3, end = 4> (images)
  height1 = Unsqueeze (height, first)
  width1 = Unsqueeze (width, first)
  wide1 = Mul (width1, three)
  side1 = Unsqueeze (side, first)
  flat = Concat <axis = 0> (n, height1, wide1)
  pixels = Cast <to = 1> (images)
  lines = Reshape (pixels, flat)
  low = MatMul (rows, lines)
  apart = Concat <axis = 0> (n, side1, width1, three)
  open = Reshape (low, apart)
  turned = Transpose <perm = [0, 1, 3, 2]> (open)
  across = Transpose <perm = [1, 0]> (columns)
  small = MatMul (turned, across)
  nhwc = Transpose <perm = [0, 1, 3, 2]> (small)
  down_twice = Equal (rows_scale, two)
  across_twice = Equal (columns_scale, two)
  halves = And (down_twice, across_twice)
  raised = Add (nhwc, up)
  halved = Floor (raised)
  even = Round (nhwc)
  rounded = Where (halves, halved, even)
  bounded = Clip (rounded, least, most)
  shrunk = Cast <to = 2> (bounded)
}}"""


def _matrix(length: str, name: str) -> str:
    """`name`: float32 (size, length). In float64, since places in float32 are off by thousandths in large images."""
    return f"""
  {name}_old = Cast <to = 11> ({length})
  {name}_scale = Div ({name}_old, new)
  {name}_steps = Range (none, new, unit)
  {name}_starts_flat = Mul ({name}_steps, {name}_scale)
  {name}_starts = Unsqueeze ({name}_starts_flat, last)
  {name}_ends = Add ({name}_starts, {name}_scale)
  {name}_pixel = Range (none, {name}_old, unit)
  {name}_pixel_end = Add ({name}_pixel, unit)
  {name}_left = Max ({name}_starts, {name}_pixel)
  {name}_right = Min ({name}_ends, {name}_pixel_end)
  {name}_overlap = Sub ({name}_right, {name}_left)
  {name}_positive = Relu ({name}_overlap)
  {name}_area = Div ({name}_positive, {name}_scale)
  {name}_middle = Add ({name}_steps, half)
  {name}_scaled = Mul ({name}_middle, {name}_scale)
  {name}_moved = Sub ({name}_scaled, half)
  {name}_end = Sub ({name}_old, unit)
  {name}_raised = Max ({name}_moved, none)
  {name}_within = Min ({name}_raised, {name}_end)
  {name}_place = Unsqueeze ({name}_within, last)
  {name}_distance = Sub ({name}_place, {name}_pixel)
  {name}_far = Abs ({name}_distance)
  {name}_near = Sub (unit, {name}_far)
  {name}_linear = Relu ({name}_near)
  {name}_chosen = Where (shrinks, {name}_area, {name}_linear)
  {name} = Cast <to = 1> ({name}_chosen)"""


def _after(threshold: float) -> str:
    """Linear interpolation between pixel centres, as cv2.resize's INTER_LINEAR."""
    return f"""{_HEAD}
after (float[N, S, S] found, int64[2] size)
  => (uint8[N, H, W] mask, float[N, H, W] probability, float[N] confidence)
<float limit = {{{threshold!r}}},
 int64[1] one = {{1}}, int64[2] plane = {{1, 2}}, float two = {{2}}, float least = {{1}}>
{{
  n = Shape <start = 0, end = 1> (found)
  four = Unsqueeze (found, one)
  wanted = Concat <axis = 0> (n, one, size)
  large = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (four, , , wanted)
  probability = Squeeze (large, one)
  above = Greater (probability, limit)
  mask = Cast <to = 2> (above)
  inside = Cast <to = 1> (above)
  both = Mul (probability, inside)
  overlap = ReduceSum <keepdims = 0> (both, plane)
  area = ReduceSum <keepdims = 0> (inside, plane)
  sum = ReduceSum <keepdims = 0> (probability, plane)
  twice = Mul (overlap, two)
  either = Add (sum, area)
  safe = Max (either, least)
  confidence = Div (twice, safe)
}}"""
