"""Frees a first axis that an export fixed, as a candidate: the axis walk must prove it after.

Exporters write the batch of their example into the file, into the inputs and into the targets of
Reshape. Each change made here leaves the result as it was for the fixed length, whatever the graph
is: a length becomes -1, which comes to the same number, or a constant of equal rows becomes one
row that is broadcast. So what is proved of the freed graph (rows do not touch each other) says that
a row is answered as the exported model would answer it. What is not changed keeps the old length,
and the walk or the engine refuses it.
"""

from __future__ import annotations

from typing import Callable

import numpy as np
import onnx

from serving.formats.batch_axis import prove
from serving.formats.batch_axis.broadcasting import VARIADIC
from serving.formats.batch_axis.claim import fixed_length, real_inputs
from serving.formats.batch_axis.inference import Inferred, infer
from serving.formats.batch_axis.step import Refusal
from serving.tensor import Array

AXIS = "batch"
"""The name that the freed axis gets."""
_TO_THE_END = np.iinfo(np.int64).max


def freed(model: onnx.ModelProto, *, stretch: bool = False) -> onnx.ModelProto:
    """Return a copy with the first axis free; raises ``Refusal`` where there is none to free.

    The data of large constants need not be there; small ones that change are added anew.
    ``stretch`` makes constants of equal rows as long as the batch, such as the tokens that a
    decoder begins with: worth a try where the copy without is not proved.
    """
    length = common_length(model)
    inferred = infer(model)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for info in (*real_inputs(made.graph), *made.graph.output):
        axes = info.type.tensor_type.shape.dim
        if axes and fixed_length(axes[0]) is not None:
            axes[0].dim_param = AXIS
    rewrite = _Rewrite(made.graph, length, inferred)
    if stretch:
        rewrite.stretch()
    rewrite.run()
    return made


def proved_free(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Return a copy whose first axis is free and proved, and its length before.

    Raises ``Refusal`` where there is none to free, or what is freed is not proved.
    """
    why = ""
    for stretch in (False, True):
        after = freed(model, stretch=stretch)
        proof = prove(after)
        if proof.batched:
            return after, common_length(model)
        why = why or proof.reason
    raise Refusal(why)


def common_length(model: onnx.ModelProto) -> int:
    """Return the length of all inputs' first axes; raises ``Refusal`` where there is no such."""
    lengths: dict[int, str] = {}
    for info in real_inputs(model.graph):
        axes = info.type.tensor_type.shape.dim
        if info.type.WhichOneof("value") != "tensor_type" or not axes:
            continue
        length = fixed_length(axes[0])
        if length is None:
            raise Refusal(f"the first axis of input '{info.name}' is free as it is")
        lengths.setdefault(length, info.name)
    if not lengths:
        raise Refusal("no input has an axis that could count the rows of a batch")
    if len(lengths) > 1:
        told = " and ".join(f"{n} ('{name}')" for n, name in lengths.items())
        raise Refusal(f"the inputs' first axes differ in length: {told}")
    (length,) = lengths
    if not length:
        raise Refusal("the first axis has the length 0")
    return length


class _Rewrite:
    """Changes the nodes that come after the inputs; constants are shared, so new ones are made."""

    def __init__(self, graph: onnx.GraphProto, length: int, inferred: Inferred) -> None:
        self._graph = graph
        self._length = length
        self._shapes = inferred.shapes
        self._constants = {t.name: t for t in graph.initializer}
        self._made: dict[tuple[str, bytes], str] = {}
        self._taken = {*self._constants, *(i.name for i in graph.input)}
        self._taken.update(name for node in graph.node for name in node.output)
        self._rules: dict[str, Callable[[onnx.NodeProto], None]] = {
            "Reshape": self._reshape,
            "Slice": self._slice,
            "Expand": self._expand,
            **dict.fromkeys(VARIADIC, self._broadcast),
        }

    def stretch(self) -> None:
        """Repeat constants of equal rows once for each row of the batch, while the graph runs.

        Only tensors of two axes and more: what has one is mostly a setting, such as a shape.
        """
        row = next(i for i in real_inputs(self._graph) if i.type.tensor_type.shape.dim)
        nodes: list[onnx.NodeProto] = []
        renamed: dict[str, str] = {}
        for tensor in list(self._graph.initializer):
            value = self._value(tensor)
            if value is None or value.ndim < 2 or value.shape[0] != self._length:
                continue
            # A first length of 1 says little; a table of numbers is stretched where it is used.
            if (self._length > 1 or value.dtype.kind == "i") and (value == value[:1]).all():
                made = self._stretched(tensor.name, value, row.name)
                renamed[tensor.name] = made[-1].output[0]
                self._shapes[made[-1].output[0]] = value.shape
                nodes += made
        for node in self._graph.node:
            for place, name in enumerate(node.input):
                node.input[place] = renamed.get(name, name)
        after = list(self._graph.node)
        del self._graph.node[:]
        self._graph.node.extend([*nodes, *after])

    def _stretched(self, name: str, value: Array, source: str) -> list[onnx.NodeProto]:
        count, shape, found = (self._fresh(f"{name}_{p}") for p in ("count", "shape", "rows"))
        one = self._add(f"{name}_row", value[:1])
        rest = self._add(f"{name}_rest", np.array(value.shape[1:], np.int64))
        make = onnx.helper.make_node
        return [
            make("Shape", [source], [count], name=count, start=0, end=1),
            make("Concat", [count, rest], [shape], name=shape, axis=0),
            make("Expand", [one, shape], [found], name=found),
        ]

    def run(self) -> None:
        """Change what follows from the inputs, in the graph's order."""
        reached = {i.name for i in real_inputs(self._graph)}
        for node in self._graph.node:
            if reached.isdisjoint(node.input):
                continue
            reached.update(node.output)
            rule = self._rules.get(node.op_type)
            if rule is not None and node.domain in ("", "ai.onnx"):
                rule(node)
        read = {name for node in self._graph.node for name in node.input}
        read |= {o.name for o in self._graph.output}
        nested = any(
            a.type in (a.GRAPH, a.GRAPHS) for node in self._graph.node for a in node.attribute
        )
        if not nested:  # a body may read any constant
            dropped = {t.name for t in self._graph.initializer} - read
            # Files of before 2019 list constants among the inputs, too.
            for entries in (self._graph.initializer, self._graph.input):
                kept = [entry for entry in entries if entry.name not in dropped]
                del entries[:]
                entries.extend(kept)

    def _reshape(self, node: onnx.NodeProto) -> None:
        """Let the first length that holds the batch be what is left over."""
        target = self._array(node, 1)
        if target is None or target.ndim != 1 or not target.size:
            return
        if any(a.name == "allowzero" and a.i for a in node.attribute):
            return
        if (target == -1).any():
            source = self._shapes.get(node.input[0], ())
            if target[0] == self._length and source and source[0] == self._length:
                self._set(node, 1, np.concatenate([[0], target[1:]]))  # 0: as it comes in
            return
        if target[0] > 0 and target[0] % self._length == 0:
            self._set(node, 1, np.concatenate([[-1], target[1:]]))

    def _slice(self, node: onnx.NodeProto) -> None:
        """Let a cut that takes the whole first axis go to its end, however long it is."""
        shape = self._shapes.get(node.input[0], ())
        starts, ends = self._array(node, 1), self._array(node, 2)
        if not shape or shape[0] != self._length or starts is None or ends is None:
            return
        axes = self._array(node, 3) if len(node.input) > 3 else np.arange(len(starts))
        steps = self._array(node, 4) if len(node.input) > 4 else np.ones(len(starts), np.int64)
        if axes is None or steps is None:
            return
        whole = (axes % max(1, len(shape)) == 0) & (starts == 0) & (steps == 1) & (ends == shape[0])
        if whole.any():
            self._set(node, 2, np.where(whole, _TO_THE_END, ends))

    def _expand(self, node: onnx.NodeProto) -> None:
        """Let a first axis that has its length already keep it: 1 stretches nothing."""
        target, shape = self._array(node, 1), self._shapes.get(node.input[0], ())
        if target is None or not shape or len(target) != len(shape):
            return
        if target[0] == shape[0] == self._length:
            self._set(node, 1, np.concatenate([[1], target[1:]]))

    def _broadcast(self, node: onnx.NodeProto) -> None:
        """Let a constant of equal rows be one row, where rows are what it meets."""
        shapes = [tuple(self._shapes.get(name) or ()) for name in node.input]
        rank = max(map(len, shapes))
        rows = [
            len(shape) == rank > 0 and shape[0] == self._length and name not in self._constants
            for name, shape in zip(node.input, shapes, strict=True)
        ]
        for place in range(len(node.input) if any(rows) else 0):
            value = self._array(node, place)
            if value is None or value.ndim != rank:
                continue
            if value.shape[0] == self._length > 1 and (value == value[:1]).all():
                self._set(node, place, value[:1])

    def _array(self, node: onnx.NodeProto, place: int) -> Array | None:
        """Return a constant input, if it is small enough to be at hand."""
        tensor = self._constants.get(node.input[place]) if place < len(node.input) else None
        return None if tensor is None else self._value(tensor)

    def _value(self, tensor: onnx.TensorProto) -> Array | None:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        found: Array = onnx.numpy_helper.to_array(tensor)
        return found

    def _set(self, node: onnx.NodeProto, place: int, value: Array) -> None:
        old = self._constants[node.input[place]]
        value = value.astype(onnx.helper.tensor_dtype_to_np_dtype(old.data_type))
        key = (old.name, value.tobytes())
        if key not in self._made:
            self._made[key] = self._add(f"{old.name}_free", value)
        node.input[place] = self._made[key]

    def _fresh(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def _add(self, name: str, value: Array) -> str:
        name = self._fresh(name)
        tensor = onnx.numpy_helper.from_array(value, name)
        self._graph.initializer.append(tensor)
        self._constants[name] = tensor
        return name
