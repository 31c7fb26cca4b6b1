"""Walks a graph from its inputs to its outputs and proves that a batch's rows never mix.

An abstract interpretation in the graph's own order: each tensor's ``Value`` says where the rows
lie in it, each operator's rule carries them on. It is sound by construction of the rules: what
is not known to be safe is refused, with a reason for people.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Iterator, Sequence

import numpy as np
import onnx
import onnx.inliner

from serving.formats.batch_axis import (  # noqa: F401  (these modules register their rules)
    attention,
    broadcasting,
    classical,
    contraction,
    convolution,
    indexing,
    joining,
    layout,
    recurrent,
    reduction,
)
from serving.formats.batch_axis.claim import claimed_inputs, real_inputs
from serving.formats.batch_axis.folding import (
    FOLD_LIMIT,
    fold,
    is_real,
    tensor_value,
    with_elements,
)
from serving.formats.batch_axis.free_dims import free_dims
from serving.formats.batch_axis.inference import Inferred, infer
from serving.formats.batch_axis.places import free_reach, passed_place
from serving.formats.batch_axis.size import Kind, Size, Symbol, product
from serving.formats.batch_axis.step import ML, Refusal, Step, label, rule_for
from serving.formats.batch_axis.ties import check_ties
from serving.formats.batch_axis.turns import turns_of
from serving.formats.batch_axis.value import (
    Dims,
    Draft,
    OpenDims,
    Place,
    Value,
    known_value,
    object_array,
)
from serving.tensor import BatchAxes

OLDEST_OPSET, NEWEST_OPSET = 7, 28
"""The rules were written for these: before 7 broadcasting was different, later is unknown."""

_RANDOM = frozenset(
    (
        "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
        "RandomUniformLike",
    )
)  # fmt: skip


def prove(model: onnx.ModelProto) -> BatchAxes:
    """Return the proof that axis 0 of all inputs and outputs counts independent rows, or why not.

    The weights' data need not be there. Never raises for a model that can be parsed.
    """
    try:
        return _prove(model)
    except Refusal as refusal:
        return BatchAxes.refused(str(refusal))


def _prove(model: onnx.ModelProto) -> BatchAxes:
    opset = _opset(model)
    model = _inlined(model)
    inputs = claimed_inputs(model.graph)
    walk = _Walk(model.graph, opset, infer(model), inputs)
    for node in model.graph.node:
        walk.pass_through(node)
    for output in model.graph.output:
        _check_output(output.name, walk.values.get(output.name))
    check_ties(model.graph)
    count = len(model.graph.node)
    return BatchAxes(
        True,
        f"axis 0 of every input reaches axis 0 of every output ({count} "
        f"node{'' if count == 1 else 's'} walked)",
        tuple(None if inputs[i.name].rows is None else 0 for i in real_inputs(model.graph)),
        tuple(0 for _ in model.graph.output),
    )


def _opset(model: onnx.ModelProto) -> int:
    versions = [i.version for i in model.opset_import if i.domain in ("", "ai.onnx")]
    opset = max(versions, default=NEWEST_OPSET)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise Refusal(
            f"the batch is followed through opsets {OLDEST_OPSET} to {NEWEST_OPSET}, and the model "
            f"uses {opset}"
        )
    return int(opset)


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    if not model.functions:
        return model
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:
        raise Refusal("the model's own functions could not be unfolded") from error


def _check_output(name: str, value: Value | None) -> None:
    if value is None:
        raise Refusal(f"output '{name}' is made by no node")
    if value.rows is None:
        raise Refusal(f"output '{name}' does not carry the batch: it is one for all rows")
    if value.rows.axis != 0:
        raise Refusal(f"output '{name}' has the batch in axis {value.rows.axis}, not 0")
    if value.place is not Place.NONE:
        raise Refusal(f"output '{name}' depends on the place that a row has in the batch")
    if not value.rows.plain:
        raise Refusal(f"output '{name}' has the batch merged with other axes ({value.rows.size})")


class _Walk:
    """The values known so far; one node after the other is passed through."""

    def __init__(
        self, graph: onnx.GraphProto, opset: int, inferred: Inferred, inputs: dict[str, Value]
    ) -> None:
        self._opset = opset
        self._inferred = inferred
        self.values: dict[str, Value] = dict(inputs)
        for tensor in graph.initializer:
            self.values[tensor.name] = tensor_value(tensor)
        for sparse in graph.sparse_initializer:
            self.values[sparse.values.name] = Value(tuple(Size(int(n)) for n in sparse.dims))

    def pass_through(self, node: onnx.NodeProto) -> None:
        """Learn the outputs of one node; raises ``Refusal``."""
        step = Step(node, [self._input(node, name) for name in node.input], self._opset)
        if node.domain in ("", "ai.onnx") and node.op_type in _RANDOM:
            step.refuse("draws random numbers")
        for name, value in zip(node.output, self._outputs(step), strict=True):
            if name:
                self.values[name] = value

    def _input(self, node: onnx.NodeProto, name: str) -> Value | None:
        if not name:
            return None
        if name not in self.values:
            raise Refusal(f"{label(node)} uses '{name}' before any node has made it")
        return self.values[name]

    def _outputs(self, step: Step) -> Sequence[Value]:
        found = self._read_shape(step)
        if found is None:
            found = self._folded(step)
        if found is not None:
            return found
        if all(v.free for v in step.given()):
            self._check_free(step)
            made = [
                self._free(name, dims)
                for name, dims in zip(step.node.output, free_dims(step), strict=True)
            ]
            return [replace(made[0], reach=free_reach(step)), *made[1:]] if made else made
        return self._by_rule(step)

    def _read_shape(self, step: Step) -> list[Value] | None:
        """Follow the operators that turn shapes and attributes into numbers."""
        operator = step.node.op_type
        if step.node.domain not in ("", "ai.onnx"):
            return None
        if operator == "Constant":
            return [_constant(step)]
        if operator not in ("Shape", "Size"):
            return None
        value = step.value(0)
        if value.dims is None or value.sequence:
            return None
        if operator == "Size":
            return [known_value(object_array([product(value.dims)], ()))]
        chosen = value.dims[slice(step.attribute("start", 0), step.attribute("end"))]
        if len(chosen) > FOLD_LIMIT:
            return None
        return [known_value(object_array(list(chosen), (len(chosen),)))]

    def _folded(self, step: Step) -> list[Value] | None:
        """Compute with numbers taken from shapes."""
        given = step.given()
        if not given or any(v.rows is not None for v in given):
            return None
        if any(v.counts for v in given):
            values = [
                None if v is None else self._with_elements(name, v)
                for name, v in zip(step.node.input, step.inputs, strict=True)
            ]
        else:
            values = list(step.inputs)
        if sum(v is not None and v.known is not None for v in values) < len(given):
            return None
        step = Step(step.node, values, step.opset)
        return fold(step, step.given())

    def _with_elements(self, name: str, value: Value) -> Value | None:
        return with_elements(name, value, is_real(self._inferred.types.get(name, 0)))

    def _check_free(self, step: Step) -> None:
        """Refuse operators that may answer differently from run to run."""
        node = step.node
        if node.op_type == "Dropout":
            broadcasting.require_inference(step)
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain not in ("", ML) and rule_for(domain, node.op_type) is None:
            step.refuse("is an operator that the proof does not know")
        if not onnx.defs.has(node.op_type, domain) and rule_for(domain, node.op_type) is None:
            step.refuse("is an operator that the proof does not know")
        for inner in (n for graph in _inner_graphs(node) for n in graph.node):
            if inner.op_type in _RANDOM or inner.op_type == "Dropout":
                step.refuse("holds a part that draws random numbers")
            if inner.domain not in ("", "ai.onnx", ML):
                step.refuse("holds an operator that the proof does not know")
        self._check_captures(step)

    def _check_captures(self, step: Step) -> None:
        """Refuse graphs inside the node that use the batch without it being an input."""
        for graph in _inner_graphs(step.node):
            used = {name for inner in graph.node for name in inner.input}
            used.update(output.name for output in graph.output)
            for name in used & self.values.keys():
                if not self.values[name].free:
                    step.refuse("runs a part of the graph on the batch under its own control")

    def _free(self, name: str, own: OpenDims | None) -> Value:
        shape = self._inferred.shapes.get(name)
        if shape is None:
            return Value(None if own is None else _closed(name, own))
        if own is None or len(own) != len(shape):
            own = (None,) * len(shape)
        dims = (d if n is None else Size(n) for n, d in zip(shape, own, strict=True))
        return Value(_closed(name, tuple(dims)))

    def _by_rule(self, step: Step) -> list[Value]:
        node = step.node
        domain = "" if node.domain == "ai.onnx" else node.domain
        if any(v.sequence for v in step.given()):
            step.refuse("works on a list with an item for each row, which is not followed")
        if not domain and node.op_type in ("Scan", "Loop"):
            return self._turned(step)
        if next(_inner_graphs(node), None) is not None:
            step.refuse("runs a part of the graph on the batch under its own control")
        found = rule_for(domain, node.op_type)
        if found is None:
            step.refuse("is an operator that the proof does not know")
        rule, sizes = found
        inputs = list(step.inputs)
        for i, value in enumerate(inputs):
            if value is None:
                continue
            if i in sizes:
                inputs[i] = self._with_elements(node.input[i], value) or value
            elif value.counts:
                step.refuse("computes with the size of the batch")
        made = rule(Step(node, inputs, step.opset))
        drafts = [made] if isinstance(made, Draft) else list(made)
        if any(node.output[len(drafts) :]):
            step.refuse(f"returns more than the {len(drafts)} outputs that the proof knows")
        drafts += [drafts[0]] * (len(node.output) - len(drafts))  # unnamed ones, never read
        return [
            self._closed(step, name, draft)
            for name, draft in zip(node.output, drafts, strict=False)
        ]

    def _turned(self, step: Step) -> list[Value]:
        """Walk through the graph inside a node once: what holds for one turn holds for all."""
        loop = turns_of(step)
        inner = _Walk(loop.body, self._opset, Inferred({}, {}), self.values | loop.first)
        for node in loop.body.node:
            inner.pass_through(node)
        made = loop.results([inner.value(o.name) for o in loop.body.output])
        return [
            self._closed(step, name, found) if isinstance(found, Draft) else found
            for name, found in zip(step.node.output, made, strict=True)
        ]

    def value(self, name: str) -> Value:
        """Return a tensor that is made; raises ``Refusal``."""
        if name not in self.values:
            raise Refusal(f"output '{name}' is made by no node")
        return self.values[name]

    def _closed(self, step: Step, name: str, draft: Draft) -> Value:
        """Fill in lengths that shape inference found, and check the rule against it."""
        rows = draft.rows
        shape = None if draft.sequence else self._inferred.shapes.get(name)
        if shape is not None and len(shape) != len(draft.dims):
            step.refuse(f"makes '{name}' of rank {len(shape)}, not {len(draft.dims)} as expected")
        dims: list[Size | None] = []
        for axis, dim in enumerate(draft.dims):
            fixed = None if shape is None else shape[axis]
            if axis == rows.axis:
                if fixed is not None:
                    step.refuse(f"fixes axis {axis} of '{name}', the batch, at {fixed}")
                dims.append(rows.size)
                continue
            if dim is not None and dim.has_batch:
                step.refuse(f"makes another axis of '{name}' grow with the batch")
            dims.append(Size(fixed) if fixed is not None else dim)
        value = Value(_closed(name, tuple(dims)), rows, sequence=draft.sequence)
        if draft.place is not None:
            return replace(value, place=draft.place, span=draft.span, reach=draft.reach)
        kept = passed_place(step)
        reach = kept.reach if draft.reach is None else draft.reach
        return replace(value, place=kept.place, span=kept.span, reach=reach)


def _closed(name: str, dims: OpenDims) -> Dims:
    """Give a quantity of its own to every length that is not known."""
    return tuple(
        Size.of(Symbol(f"{name!r}#{i}", Kind.SIZE)) if d is None else d for i, d in enumerate(dims)
    )


def _constant(step: Step) -> Value:
    for name in ("value_int", "value_float", "value_ints", "value_floats"):
        value = step.attribute(name)
        if value is not None:
            return tensor_value(onnx.numpy_helper.from_array(_as_array(name, value)))
    tensor = step.attribute("value")
    if tensor is not None:
        return tensor_value(tensor)
    strings = step.attribute("value_strings")
    if strings is not None:
        return Value((Size(len(strings)),))
    sparse = step.attribute("sparse_value")
    return Value(()) if sparse is None else Value(tuple(Size(int(n)) for n in sparse.dims))


def _as_array(name: str, value: object) -> object:
    return np.asarray(value, dtype="float32" if "float" in name else "int64")


def _inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield all graphs held by a node's attributes, however deep."""
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        for graph in graphs:
            yield graph
            for inner in graph.node:
                yield from _inner_graphs(inner)
