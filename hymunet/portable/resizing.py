"""hymunet.images.resize as a graph, in ONNX's text form: the same bytes as OpenCV on x86-64, for every size.

OpenCV's sums are float32 and depend on their order, so the graph adds in the same order. Sizes are read at run time.
"""

PARTS = 2048.0  # of a weight, in OpenCV's linear interpolation of bytes
LEAST_SHARE = 1e-3  # of an old pixel: less of it counts for nothing in OpenCV's INTER_AREA
EPSILON = 2.0**-52  # a ratio that is closer to a whole number is one


def text(size: int) -> str:
    """`images` uint8 (N, H, W, 3) -> `shrunk` uint8 (N, size, size, 3) and `sides`, int64: H and W.

    The mean over each pixel's area where both sides shrink, else linear. Where both ratios are whole numbers the mean
    is one sum of whole numbers, of halves of a level the even one is taken, and for images that shrink to half the
    upper one. Other means are weighted sums along rows, then along columns.
    """
    return f"""
before (uint8[N, H, W, 3] images) => (uint8[N, {size}, {size}, 3] shrunk, int64[2] sides)
<int64 zero = {{0}}, int64 one = {{1}}, int64 side = {{{size}}}, double half = {{0.5}}, double none = {{0}},
 double unit = {{1}}, double new = {{{float(size)}}}, int64[1] last = {{1}}, int64[1] first = {{0}},
 int64[2] outer = {{1, 2}}, float least = {{0}}, float most = {{255}}, double two = {{2}}, float up = {{0.5}},
 float whole = {{1}}, float parts = {{{PARTS}}}, int32 sixteen = {{16}}, int32 many = {{65536}}, int32 quarter = {{4}},
 int32 rest = {{2}}, double least_share = {{{LEAST_SHARE}}}, double epsilon = {{{EPSILON!r}}}, bool go_on = {{1}}>
{{
  sides = Shape <start = 1, end = 3> (images)
  smallest = ReduceMin <keepdims = 0> (sides)
  shrinks = GreaterOrEqual (smallest, side)
  height = Gather (sides, zero)
  width = Gather (sides, one)
  n = Shape <start = 0, end = 1> (images)
  three = Shape <start = 3, end = 4> (images)
  height1 = Unsqueeze (height, first)
  side1 = Unsqueeze (side, first)
  shrunk = If (shrinks) <
    then_branch = mean () => (uint8[N, {size}, {size}, 3] mean) {{{_mean()}
    }},
    else_branch = linear () => (uint8[N, {size}, {size}, 3] linear) {{{_linear()}
    }}>
}}"""


def _mean() -> str:
    return f"""
  {_ratio("height", "rows")}
  {_ratio("width", "columns")}
  fast = And (rows_whole, columns_whole)
  {_shares("rows")}
  {_shares("columns")}
  narrow = Concat <axis = 0> (n, height1, side1, three)
  along_none = Expand (least, narrow)
  {_sum("along", "columns", 2, "images")}
  square = Concat <axis = 0> (n, side1, side1, three)
  down_none = Expand (least, square)
  {_sum("down", "rows", 1, "along")}
  area_exact = Mul (rows_scale, columns_scale)
  area_whole = Round (area_exact)
  area = Cast <to = 1> (area_whole)
  area_share = Div (whole, area)
  factor = Where (fast, area_share, whole)
  level = Mul (down, factor)
  down_twice = Equal (rows_scale, two)
  across_twice = Equal (columns_scale, two)
  halves = And (down_twice, across_twice)
  raised = Add (level, up)
  halved = Floor (raised)
  even = Round (level)
  rounded = Where (halves, halved, even)
  bounded = Clip (rounded, least, most)
  mean = Cast <to = 2> (bounded)"""


def _linear() -> str:
    return f"""
  {_ratio("height", "rows")}
  {_ratio("width", "columns")}
  {_neighbours("height", "rows")}
  {_neighbours("width", "columns")}
  {_between("0")}
  {_between("1")}
  both = Add (line0_part, line1_part)
  more = Add (both, rest)
  quartered = Div (more, quarter)
  linear = Cast <to = 2> (quartered)"""


def _ratio(length: str, name: str) -> str:
    """`name`_scale: old pixels in a new one, float64 and rounded as OpenCV's is; `name`_whole: a whole number."""
    return f"""
  {name}_steps = Range (none, new, unit)
  {name}_old = Cast <to = 11> ({length})
  {name}_inverse = Div (new, {name}_old)
  {name}_scale = Div (unit, {name}_inverse)
  {name}_nearest = Round ({name}_scale)
  {name}_off = Sub ({name}_scale, {name}_nearest)
  {name}_distance = Abs ({name}_off)
  {name}_whole = Less ({name}_distance, epsilon)"""


def _shares(name: str) -> str:
    """`name`_share float32 (K, size): what the k-th old pixel of each new one weighs, 1 in a fast mean; `name`_from
    int64 (K, size): which that is; `name`_most: K.

    Weights of one new pixel: its part of the first old one, whole ones, its part of the last.
    """
    return f"""
  {name}_starts = Mul ({name}_steps, {name}_scale)
  {name}_ends = Add ({name}_starts, {name}_scale)
  {name}_left = Sub ({name}_old, {name}_starts)
  {name}_cell = Min ({name}_scale, {name}_left)
  {name}_final = Sub ({name}_old, unit)
  {name}_floor_of_end = Floor ({name}_ends)
  {name}_stop = Min ({name}_floor_of_end, {name}_final)
  {name}_ceiling = Ceil ({name}_starts)
  {name}_inner = Min ({name}_ceiling, {name}_stop)
  {name}_head = Sub ({name}_inner, {name}_starts)
  {name}_has_head = Greater ({name}_head, least_share)
  {name}_heads = Cast <to = 11> ({name}_has_head)
  {name}_first = Sub ({name}_inner, {name}_heads)
  {name}_tail = Sub ({name}_ends, {name}_stop)
  {name}_has_tail = Greater ({name}_tail, least_share)
  {name}_tail_pixel = Min ({name}_tail, unit)
  {name}_tail_cell = Min ({name}_tail_pixel, {name}_cell)
  {name}_tail_part = Where ({name}_has_tail, {name}_tail_cell, none)
  {name}_span = Sub ({name}_stop, {name}_first)
  {name}_widest = ReduceMax <keepdims = 0> ({name}_span)
  {name}_count = Add ({name}_widest, unit)
  {name}_most = Cast <to = 7> ({name}_count)
  {name}_order_flat = Range (none, {name}_count, unit)
  {name}_order = Unsqueeze ({name}_order_flat, last)
  {name}_pixel = Add ({name}_first, {name}_order)
  {name}_before = Less ({name}_pixel, {name}_inner)
  {name}_within = Less ({name}_pixel, {name}_stop)
  {name}_at_stop = Equal ({name}_pixel, {name}_stop)
  {name}_at_end = Where ({name}_at_stop, {name}_tail_part, none)
  {name}_not_before = Where ({name}_within, unit, {name}_at_end)
  {name}_covered = Where ({name}_before, {name}_head, {name}_not_before)
  {name}_weights = Div ({name}_covered, {name}_cell)
  {name}_counted = Ceil ({name}_weights)
  {name}_chosen = Where (fast, {name}_counted, {name}_weights)
  {name}_share = Cast <to = 1> ({name}_chosen)
  {name}_bounded = Min ({name}_pixel, {name}_final)
  {name}_from = Cast <to = 7> ({name}_bounded)"""


def _sum(result: str, name: str, axis: int, source: str) -> str:
    """The weighted sum of old pixels along an axis, one old pixel of each new one at a time."""
    others = "{1}" if axis == 2 else "{1, 2}"
    count = 1 if axis == 2 else 2
    return f"""
  {result} = Loop ({name}_most, go_on, {result}_none) <body = {result}_body
    (int64 {result}_k, bool {result}_go, float[N, A, B, 3] {result}_sum)
    => (bool {result}_on, float[N, A, B, 3] {result}_more)
    <int64[{count}] {result}_axes = {others}>
  {{
    {result}_on = Identity ({result}_go)
    {result}_at = Gather <axis = 0> ({name}_from, {result}_k)
    {result}_by = Gather <axis = 0> ({name}_share, {result}_k)
    {result}_taken = Gather <axis = {axis}> ({source}, {result}_at)
    {result}_values = Cast <to = 1> ({result}_taken)
    {result}_wide = Unsqueeze ({result}_by, {result}_axes)
    {result}_part = Mul ({result}_values, {result}_wide)
    {result}_more = Add ({result}_sum, {result}_part)
  }}>"""


def _neighbours(length: str, name: str) -> str:
    """For linear interpolation the two neighbours, `name`_at0 and `name`_at1, with their weights in 2048ths,
    `name`_by0 and `name`_by1: of a column beyond the border nothing counts, of a row the border's stands in.
    """
    return f"""
  {name}_middle = Add ({name}_steps, half)
  {name}_scaled = Mul ({name}_middle, {name}_scale)
  {name}_moved = Sub ({name}_scaled, half)
  {name}_place = Cast <to = 1> ({name}_moved)
  {name}_floor = Floor ({name}_place)
  {name}_length = Cast <to = 1> ({length})
  {name}_end = Sub ({name}_length, whole)
  {name}_beyond = Sub ({name}_place, {name}_floor)
  {name}_below = Less ({name}_floor, least)
  {name}_above = GreaterOrEqual ({name}_floor, {name}_end)
  {name}_outside = Or ({name}_below, {name}_above)
  {name}_inside = Where ({name}_outside, least, {name}_beyond)
  {name}_share1 = Identity ({name}_{"inside" if name == "columns" else "beyond"})
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
