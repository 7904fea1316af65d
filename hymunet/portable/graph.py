"""What stands around a model's graph: from images of any size to the model's, and from its probabilities back.

Sizes are read from the images at run time. Both parts are ONNX in its own text form.
"""

import onnx
from onnx import compose, helper, parser

from hymunet.portable import resizing

OPSET = 18
INPUT, OUTPUTS = "images", ("mask", "probability", "confidence")
_HEAD = f'<ir_version: 10, opset_import: ["" : {OPSET}]>'


def around(core: onnx.ModelProto, size: int, threshold: float) -> onnx.ModelProto:
    """core: uint8 `pixels` (N, size, size, 3) -> float32 `small` (N, size, size). The whole:

    `images` uint8 (N, H, W, 3) of any size -> `mask` uint8 (N, H, W) of 0 and 1, `probability` float32 (N, H, W),
    `confidence` float32 (N): the Dice between mask and probabilities, 0 without a mask.
    """
    before, after = parser.parse_model(_HEAD + resizing.text(size)), parser.parse_model(_after(threshold))
    opset = next(entry.version for entry in core.opset_import if entry.domain in ("", "ai.onnx"))
    for part in (before, after):
        part.opset_import[0].version = opset
        part.ir_version = core.ir_version
    for part, name in ((before.graph, "before/"), (after.graph, "after/")):
        constants = {one.name: name + one.name for one in part.initializer}  # which branches use, too
        compose.add_prefix_graph(
            part, name, rename_inputs=False, rename_outputs=False, inplace=True, name_map=constants
        )
    first = compose.merge_models(before, core, [("shrunk", "pixels")], outputs=["sides", "small"])
    whole = compose.merge_models(first, after, [("sides", "size"), ("small", "found")], outputs=list(OUTPUTS))
    versions = {entry.domain: entry.version for entry in whole.opset_import}  # merging repeats them
    del whole.opset_import[:]
    whole.opset_import.extend(helper.make_opsetid(domain, number) for domain, number in versions.items())
    _without_traces(whole.graph)
    onnx.checker.check_model(whole)
    return whole


def _without_traces(graph: onnx.GraphProto) -> None:
    """Which lines of which files on this machine made each node, torch writes into it: for nobody else to read."""
    for part in (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output, graph):
        del part.metadata_props[:]
        part.doc_string = ""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _without_traces(inner)


def describe(model: onnx.ModelProto, facts: dict[str, str]) -> None:
    """`session.get_modelmeta().custom_metadata_map` gives them back."""
    helper.set_model_props(model, facts)


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
