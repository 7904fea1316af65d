"""What stands around a model's graph: from images of any size to the model's, and from its probabilities back.

Sizes are read from the images at run time. Both parts are ONNX in its own text form.
"""

import onnx
from onnx import compose, helper, parser

OPSET = 18
INPUT, OUTPUTS = "images", ("mask", "probability", "confidence")
PARTS = 2048.0  # of a weight, in OpenCV's linear interpolation of bytes
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
    versions = {entry.domain: entry.version for entry in whole.opset_import}  # merging repeats them
    del whole.opset_import[:]
    whole.opset_import.extend(helper.make_opsetid(domain, number) for domain, number in versions.items())
    onnx.checker.check_model(whole)
    return whole


def describe(model: onnx.ModelProto, facts: dict[str, str]) -> None:
    """`session.get_modelmeta().custom_metadata_map` gives them back."""
    helper.set_model_props(model, facts)


def _before(size: int) -> str:
    """Resizing as hymunet.images.resize: the mean over each pixel's area where both sides shrink, else linear.

    The mean is two products with matrices of how much of each old pixel lies in each new one. Of halves of a level the
    even one is taken, as OpenCV does, but for images that shrink to half, where it takes the upper one.
    """
    return f"""{_HEAD}
before (uint8[N, H, W, 3] images) => (uint8[N, {size}, {size}, 3] shrunk, int64[2] sides)
<int64 zero = {{0}}, int64 one = {{1}}, int64 side = {{{size}}}, double half = {{0.5}}, double none = {{0}},
 double unit = {{1}}, double new = {{{float(size)}}}, int64[1] last = {{1}}, int64[1] first = {{0}},
 int64[2] outer = {{1, 2}}, float least = {{0}}, float most = {{255}}, double two = {{2}}, float up = {{0.5}},
 float whole = {{1}}, float parts = {{{PARTS}}}, int32 sixteen = {{16}}, int32 many = {{65536}}, int32 quarter = {{4}},
 int32 rest = {{2}}>
{{
  sides = Shape <start = 1, end = 3> (images)
  smallest = ReduceMin <keepdims = 0> (sides)
  shrinks = GreaterOrEqual (smallest, side)
  height = Gather (sides, zero)
  width = Gather (sides, one)
  {_side("height", "rows")}
  {_side("width", "columns")}
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
  mean = Cast <to = 2> (bounded)
  {_between("0")}
  {_between("1")}
  both = Add (line0_part, line1_part)
  more = Add (both, rest)
  quartered = Div (more, quarter)
  linear = Cast <to = 2> (quartered)
  shrunk = Where (shrinks, mean, linear)
}}"""


def _side(length: str, name: str) -> str:
    """`name`: float32 (size, length), the share of each old pixel in each new one; and for linear interpolation the two
    neighbours, `name`_at0 and `name`_at1, with their weights in 2048ths, `name`_by0 and `name`_by1.

    Shares are found in float64, since places in float32 are off by thousandths in large images. Weights are OpenCV's:
    of a column beyond the border nothing counts, of a row the border's stands in.
    """
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
  {name} = Cast <to = 1> ({name}_area)
  {name}_middle = Add ({name}_steps, half)
  {name}_scaled = Mul ({name}_middle, {name}_scale)
  {name}_moved = Sub ({name}_scaled, half)
  {name}_place = Cast <to = 1> ({name}_moved)
  {name}_floor = Floor ({name}_place)
  {name}_count = Cast <to = 1> ({length})
  {name}_end = Sub ({name}_count, whole)
  {name}_beyond = Sub ({name}_place, {name}_floor)
  {name}_below = Less ({name}_floor, least)
  {name}_above = GreaterOrEqual ({name}_floor, {name}_end)
  {name}_outside = Or ({name}_below, {name}_above)
  {name}_within = Where ({name}_outside, least, {name}_beyond)
  {name}_share1 = Identity ({name}_{"within" if name == "columns" else "beyond"})
  {name}_share0 = Sub (whole, {name}_share1)
  {name}_parts0 = Mul ({name}_share0, parts)
  {name}_parts1 = Mul ({name}_share1, parts)
  {name}_round0 = Round ({name}_parts0)
  {name}_round1 = Round ({name}_parts1)
  {name}_by0 = Cast <to = 6> ({name}_round0)
  {name}_by1 = Cast <to = 6> ({name}_round1)
  {name}_raised = Max ({name}_floor, least)
  {name}_lowered = Min ({name}_raised, {name}_end)
  {name}_at0 = Cast <to = 7> ({name}_lowered)
  {name}_next = Add ({name}_floor, whole)
  {name}_next_up = Max ({name}_next, least)
  {name}_next_in = Min ({name}_next_up, {name}_end)
  {name}_at1 = Cast <to = 7> ({name}_next_in)"""


def _between(row: str) -> str:
    """One of the two old rows of each new one, interpolated along itself, by its weight: whole numbers, cut off where
    OpenCV cuts them off."""
    return f"""
  line{row} = Gather <axis = 1> (images, rows_at{row})
  line{row}_left = Gather <axis = 2> (line{row}, columns_at0)
  line{row}_right = Gather <axis = 2> (line{row}, columns_at1)
  line{row}_left_int = Cast <to = 6> (line{row}_left)
  line{row}_right_int = Cast <to = 6> (line{row}_right)
  line{row}_by_left = Unsqueeze (columns_by0, last)
  line{row}_by_right = Unsqueeze (columns_by1, last)
  line{row}_weighed_left = Mul (line{row}_left_int, line{row}_by_left)
  line{row}_weighed_right = Mul (line{row}_right_int, line{row}_by_right)
  line{row}_sum = Add (line{row}_weighed_left, line{row}_weighed_right)
  line{row}_short = Div (line{row}_sum, sixteen)
  line{row}_by = Unsqueeze (rows_by{row}, outer)
  line{row}_weighed = Mul (line{row}_short, line{row}_by)
  line{row}_part = Div (line{row}_weighed, many)"""


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
