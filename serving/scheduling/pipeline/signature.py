"""What is known of a method's inputs and outputs before anybody calls it; pure.

Functions may take and return anything, so most of it is open. Where a value goes straight into a
model, or comes straight out of one, the model says what it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from serving.definition import INPUTS, Kind, Method, Ref
from serving.scheduling.pipeline.port import Port
from serving.tensor import ANY, BatchAxes, Dim, Signature, TensorSpec

PortKey = tuple[str, int]
"""A model's key in the definition, and a subgraph of it."""

_OPEN = TensorSpec("", ANY, None)

PER_INSTANCE = "every instance goes through the method on its own; its stages batch"


def signature_of(method: Method, ports: Mapping[PortKey, Port]) -> Signature:
    """Return inputs and outputs; axis 0 of each counts instances."""
    inputs = [_input(method, index, ports) for index in range(len(method.inputs))]
    outputs = [_output(method, ref, inputs, ports) for ref in method.returns]
    return Signature(
        tuple(map(_counted, method.inputs, inputs)), tuple(map(_counted, method.outputs, outputs))
    )


def axes_of(signature: Signature) -> BatchAxes:
    """Return the batch axes of a method: axis 0 everywhere."""
    inputs, outputs = (0,) * len(signature.inputs), (0,) * len(signature.outputs)
    return BatchAxes(True, PER_INSTANCE, inputs, outputs)


def _input(method: Method, index: int, ports: Mapping[PortKey, Port]) -> TensorSpec:
    """Return what an input must be: open as soon as a function takes it, or models differ."""
    found: set[TensorSpec] = set()
    for node in method.nodes:
        for place, ref in enumerate(node.inputs):
            if ref == Ref(INPUTS, index):
                if node.kind is not Kind.MODEL:
                    return _OPEN
                found.add(ports[node.name, node.subgraph].input_rows[place])
    return found.pop() if len(found) == 1 else _OPEN


def _output(
    method: Method, ref: Ref, inputs: list[TensorSpec], ports: Mapping[PortKey, Port]
) -> TensorSpec:
    if ref.node == INPUTS:
        return inputs[ref.output]
    node = method.nodes[ref.node]
    if node.kind is not Kind.MODEL:
        return _OPEN
    return ports[node.name, node.subgraph].output_rows[ref.output]


def _counted(name: str, row: TensorSpec) -> TensorSpec:
    counted: tuple[Dim, ...] | None = None if row.shape is None else ("", *row.shape)
    return TensorSpec(name, row.dtype, counted, row.json)
