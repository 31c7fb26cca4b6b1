"""Collects the ONNX graph: nodes, fresh names, and constants of which none is kept twice."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Collection, Iterator, Sequence

import numpy as np
import onnx

from serving.formats.mindir.graph import Weight
from serving.formats.mindir.types import TensorType, run_dtype
from serving.formats.mindir.value import Tensor
from serving.tensor import BY_ONNX, Array

OPSET = 17
"""LayerNormalization is the newest operator needed; TensorRT 8.6 and later read 17."""
IR_VERSION = 8
"""The ONNX file version that came with opset 17 (onnx 1.12)."""
_UNTOLD = re.compile(r"[^\w./:-]+")

Body = list[onnx.NodeProto]


@dataclass(frozen=True)
class Initializer:
    """A constant of the ONNX graph: its description, and its bytes as they lie in a file."""

    tensor: onnx.TensorProto
    data: memoryview


class Builder:
    """The ONNX graph under construction; nodes go to the innermost body, constants to the top."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Tensor] = {}
        self._weights: dict[Weight, Tensor] = {}
        self.initializers: list[Initializer] = []
        self.nodes: Body = []

    def fresh(self, hint: str) -> str:
        """Return a name that nothing has yet: the hint, numbered if need be."""
        base = _UNTOLD.sub("_", hint) or "value"
        name = base
        while name in self._taken:
            self._numbers[base] = self._numbers.get(base, 1) + 1
            name = f"{base}_{self._numbers[base]}"
        self._taken.add(name)
        return name

    def node(
        self,
        operator: str,
        inputs: Sequence[Tensor | None],
        types: Sequence[TensorType],
        hint: str,
        attributes: dict[str, Any],
    ) -> tuple[Tensor, ...]:
        """Add a node; attributes that are ``None`` are left out."""
        outputs = [Tensor(self.fresh(hint), t) for t in types]
        given = {k: v for k, v in attributes.items() if v is not None}
        names = ["" if i is None else i.name for i in inputs]
        while names and not names[-1]:
            names.pop()
        self.nodes.append(
            onnx.helper.make_node(
                operator,
                names,
                [o.name for o in outputs],
                name=outputs[0].name,
                **given,
            )
        )
        return tuple(outputs)

    @contextmanager
    def inside(self, body: Body) -> Iterator[None]:
        """Add nodes to another body (of an If or Loop) for a while."""
        outer, self.nodes = self.nodes, body
        try:
            yield
        finally:
            self.nodes = outer

    def constant(self, array: Array, hint: str = "constant") -> Tensor:
        """Return the tensor of a small constant; equal constants are one."""
        plain = np.ascontiguousarray(array).reshape(array.shape)
        raw = plain.tobytes()
        key = (plain.dtype.str, plain.shape, raw)
        if key not in self._constants:
            dtype = BY_ONNX[onnx.helper.np_dtype_to_tensor_dtype(plain.dtype)]
            tensor = Tensor(self.fresh(hint), TensorType(dtype, plain.shape))
            self._add(tensor, memoryview(raw))
            self._constants[key] = tensor
        return self._constants[key]

    def weight(self, weight: Weight) -> Tensor:
        """Return the tensor of a weight, whose data stays where it is."""
        if weight not in self._weights:
            dtype = run_dtype(weight.type.dtype)
            tensor = Tensor(self.fresh(weight.name), TensorType(dtype, weight.type.shape))
            same = dtype is weight.type.dtype
            self._add(tensor, weight.data if same else memoryview(weight.array().tobytes()))
            self._weights[weight] = tensor
        return self._weights[weight]

    def _add(self, tensor: Tensor, data: memoryview) -> None:
        described = onnx.TensorProto(
            name=tensor.name, data_type=tensor.dtype.onnx, dims=tensor.shape or ()
        )
        self.initializers.append(Initializer(described, data))


def pruned(nodes: Body, outputs: Collection[str]) -> Body:
    """Return the nodes that the outputs depend on, in order, those in bodies pruned likewise."""
    wanted = set(outputs)
    kept: Body = []
    for node in reversed(nodes):
        if wanted.isdisjoint(node.output):
            continue
        kept.append(node)
        wanted.update(node.input)
        for body in _bodies(node):
            left = pruned(body.node, [o.name for o in body.output])
            del body.node[:]
            body.node.extend(left)
            wanted.update(read_names(body))
    return kept[::-1]


def read_names(graph: onnx.GraphProto) -> set[str]:
    """Return every name that a graph or a body within it reads, its own values included."""
    names = {o.name for o in graph.output}
    for node in graph.node:
        names.update(node.input)
        for body in _bodies(node):
            names |= read_names(body)
    return names


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]


def value_info(name: str, stated: TensorType) -> onnx.ValueInfoProto:
    """Return the declaration of an input or output; an axis that varies has no name."""
    if stated.shape is None:
        return onnx.helper.make_tensor_value_info(name, stated.dtype.onnx, None)
    shape = [None if n < 0 else n for n in stated.shape]
    return onnx.helper.make_tensor_value_info(name, stated.dtype.onnx, shape)
