"""Fixed lengths and element types of every tensor, from onnx's shape inference.

What the file itself declares of its inner tensors and outputs is left out first: exporters get
it wrong, and a proof may not rest on it. Declared inputs stay, for the engine enforces them.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx.shape_inference

from serving.formats.batch_axis.claim import fixed_length, real_inputs
from serving.formats.batch_axis.folding import FOLD_LIMIT
from serving.formats.batch_axis.step import Refusal


@dataclass(frozen=True)
class Inferred:
    """Shapes (``None`` for a length or rank that is not known) and ONNX element types by name."""

    shapes: dict[str, tuple[int | None, ...]]
    types: dict[str, int]


def infer(model: onnx.ModelProto) -> Inferred:
    """Return what follows from inputs, constants and operators; raises ``Refusal``.

    Large constants are handed to inference as inputs, so their elements are never copied.
    """
    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    graph, source = light.graph, model.graph
    graph.name = source.name or "graph"
    # Copies: what is cleared below stays in the model itself.
    graph.input.extend(real_inputs(source))
    for info in graph.input:
        if info.type.WhichOneof("value") != "tensor_type":
            continue
        for dim in info.type.tensor_type.shape.dim:
            if fixed_length(dim) is None and not dim.dim_param:
                dim.Clear()
    graph.node.extend(source.node)
    for node in graph.node:
        if node.domain == "ai.onnx":  # the same as "", and not known by that name
            node.domain = ""
    for tensor in source.initializer:
        if _is_small(tensor):
            graph.initializer.append(tensor)
        else:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    graph.output.extend(onnx.ValueInfoProto(name=o.name) for o in source.output)
    try:
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except Exception as error:
        text = str(error).strip().splitlines()
        raise Refusal(f"the shapes in the graph contradict each other: {text[0]}") from error
    return _collect(inferred.graph)


def _is_small(tensor: onnx.TensorProto) -> bool:
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count <= FOLD_LIMIT and tensor.data_location != onnx.TensorProto.EXTERNAL


def _collect(graph: onnx.GraphProto) -> Inferred:
    shapes: dict[str, tuple[int | None, ...]] = {}
    types: dict[str, int] = {}
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.WhichOneof("value") != "tensor_type":
            continue
        tensor = info.type.tensor_type
        types[info.name] = tensor.elem_type
        if tensor.HasField("shape"):
            shapes[info.name] = tuple(
                d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim
            )
    return Inferred(shapes, types)
