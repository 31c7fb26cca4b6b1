"""Lets a model compute in half precision: casts around the operators that gain from it.

The rule is that of automatic mixed precision. Products and convolutions run in the lower type;
operators that only move or gate values follow their inputs; everything else, and all that is not
known, stays in FP32 as it was exported. The model's inputs and outputs keep their types.

A value may exist in both types: ``x`` in FP32 and ``x__fp16`` in the lower one. Whichever is
missing is made by a Cast where it is first needed, so that no value is cast twice. What comes out
is for TensorRT's parser: ONNX's own schemas know BF16 for Conv and others only since opset 22.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from serving.tensor import float32_to_bf16

GAINING = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
FOLLOWING = frozenset(
    {
        "Add", "AveragePool", "Clip", "Concat", "Dropout", "Expand", "Flatten", "Gather", "Gelu",
        "Identity", "LeakyRelu", "MaxPool", "Mul", "Pad", "PRelu", "Relu", "Reshape", "Sigmoid",
        "Slice", "Split", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
FIRST_ALONE = frozenset({"BatchNormalization"})
"""Followers whose statistics stay in FP32 beside values in the lower type, as opset 15 allows."""
_FIRST_ALONE_SINCE = 15
LARGEST_FP16 = 65504.0
_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@dataclass
class Casting:
    """One pass over a graph. ``lower`` is "fp16" or "bf16"."""

    model: onnx.ModelProto
    lower: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    lowered: int = 0
    clipped: int = 0
    _floats: set[str] = field(default_factory=set)
    _stored: dict[str, onnx.TensorProto] = field(default_factory=dict)
    _high: set[str] = field(default_factory=set)
    _low: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)
    _opset: int = 0

    def run(self) -> None:
        """Rewrite the model in place."""
        graph = self.model.graph
        domains = {entry.domain: entry.version for entry in self.model.opset_import}
        self._opset = domains.get("", domains.get("ai.onnx", 0))
        _store_constants(graph)
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._floats = _float_values(self.model)
        self._high = {info.name for info in graph.input} | set(self._stored)
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)}
        for node in list(graph.node):
            if self._gains(node):
                self._lower(node)
            else:
                self._keep(node)
        for info in graph.output:
            self._as_high(info.name)
        del graph.node[:]
        graph.node.extend(self.nodes)
        del graph.value_info[:]  # it names types that are no longer so
        _drop_unused(graph)

    def _operands(self, node: onnx.NodeProto) -> list[str]:
        """Return the FP32 inputs that are cast where the operator runs in the lower type."""
        inputs = list(node.input[:1] if node.op_type in FIRST_ALONE else node.input)
        return [name for name in inputs if name in self._floats]

    def _gains(self, node: onnx.NodeProto) -> bool:
        inputs = self._operands(node)
        outputs = [name for name in node.output if name]
        if node.domain not in ("", "ai.onnx") or not inputs or _subgraphs(node):
            return False
        if not all(name in self._floats for name in outputs):
            return False
        if node.op_type in GAINING:
            # A product of two constants is folded when the engine is built, and best in FP32.
            return any(name not in self._stored for name in inputs)
        computed = [name for name in inputs if name not in self._stored]
        follows = bool(computed) and all(name in self._low for name in computed)
        if node.op_type in FIRST_ALONE and self._opset < _FIRST_ALONE_SINCE:
            return False
        return node.op_type in FOLLOWING | FIRST_ALONE and follows

    def _lower(self, node: onnx.NodeProto) -> None:
        operands = self._operands(node)
        for at, name in enumerate(node.input):
            if name in operands:
                node.input[at] = self._as_low(name)
        for at, name in enumerate(node.output):
            if name:
                self._low[name] = node.output[at] = self._fresh(name)
        self.nodes.append(node)
        self.lowered += 1

    def _keep(self, node: onnx.NodeProto) -> None:
        for name in (*node.input, *_captured(node)):
            self._as_high(name)
        self._high.update(node.output)
        self.nodes.append(node)

    def _as_high(self, name: str) -> None:
        """Have the value in FP32, under its own name."""
        if name in self._low and name not in self._high:
            self.nodes.append(helper.make_node("Cast", [self._low[name]], [name], to=1))
            self._high.add(name)

    def _as_low(self, name: str) -> str:
        """Return the name of the value in the lower type."""
        if name not in self._low:
            low = self._low[name] = self._fresh(name)
            if name in self._stored:
                self.model.graph.initializer.append(self._constant(self._stored[name], low))
            else:
                cast = helper.make_node("Cast", [name], [low], to=_TYPES[self.lower])
                self.nodes.append(cast)
        return self._low[name]

    def _fresh(self, name: str) -> str:
        low = f"{name}__{self.lower}"
        while low in self._taken:
            low += "_"
        self._taken.add(low)
        return low

    def _constant(self, tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
        values: NDArray[np.float32] = numpy_helper.to_array(tensor)
        if self.lower == "bf16":
            bits = float32_to_bf16(values)
            return helper.make_tensor(
                name, TensorProto.BFLOAT16, values.shape, bits.astype("<u2").tobytes(), raw=True
            )
        # A mask's -1e9 must not become an infinity: a row of them would come out as NaN.
        within = np.clip(values, -LARGEST_FP16, LARGEST_FP16)
        beyond = np.isfinite(values) & (within != values)
        self.clipped += int(np.count_nonzero(beyond))
        kept = np.where(np.isfinite(values), within, values).astype(np.float16)
        return numpy_helper.from_array(np.asarray(kept), name)


def _store_constants(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes with a tensor of floats into initializers, which are converted once."""
    kept = []
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type != "Constant" or value is None or value.data_type != TensorProto.FLOAT:
            kept.append(node)
            continue
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)


def _float_values(model: onnx.ModelProto) -> set[str]:
    """Return the names of values that are FP32 for certain."""
    # Types need no weights: what is stored stands in the graph with its type.
    inferred = onnx.shape_inference.infer_shapes(_light(model)).graph
    infos = (*inferred.input, *inferred.output, *inferred.value_info)
    told = {i.name for i in infos if i.type.tensor_type.elem_type == TensorProto.FLOAT}
    stored = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    return told | stored


def _light(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with stored values as inputs: type inference copies the whole of it."""
    light = onnx.ModelProto()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = model.graph.name or "graph"
    light.graph.node.extend(model.graph.node)
    light.graph.output.extend(model.graph.output)
    light.graph.value_info.extend(model.graph.value_info)
    light.graph.input.extend(model.graph.input)
    declared = {info.name for info in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name not in declared:
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            light.graph.input.append(info)
    return light


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [g for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs)]


def _captured(node: onnx.NodeProto) -> Iterable[str]:
    """Yield every name that the node's subgraphs mention: some are values of the graph around."""
    for graph in _subgraphs(node):
        yield from (info.name for info in graph.output)
        for inner in graph.node:
            yield from inner.input
            yield from _captured(inner)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove stored values that nothing reads any more: their lower twins took their place."""
    used = {info.name for info in (*graph.output, *graph.input)}
    for node in graph.node:
        used.update(node.input)
        used.update(_captured(node))
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
