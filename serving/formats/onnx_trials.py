"""Small ONNX models that show whether an engine knows what a large one asks for.

An engine refuses an opset or a file version that is too new for it, and an operator that it has
not, whatever the weights and shapes are: so it says of a model of one node, within a millisecond,
what it would say of the whole.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator

import onnx
from onnx import helper

_KNOWN_OPSETS = {"": 21, "ai.onnx.ml": 5}
_KNOWN_IR_VERSION = 10
"""What ONNX Runtime 1.20 knows, the oldest that is served with: up to it there is no question, nor
about opset 1 of any domain."""
_MOST = 64
_ANY_OPSET = 13
"""For a model that imports none of ai.onnx: every engine has ``Constant`` of it."""

Operator = tuple[str, str]
"""Domain (empty for ai.onnx) and name."""


def trials(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return models in base64, each with one thing that an engine may not know; mostly none.

    The first asks about opsets and file version, if any is new; each other about one operator that
    is not of the ONNX standard, nor a function of the model's own, or that needs something of the
    machine: words change case by a locale, which it may lack.
    """
    found = []
    if _is_new(model):
        found.append(_trial(model, helper.make_node("Constant", [], ["y"], value_float=0.0)))
    for domain, name in sorted(_unsure(model)):
        found.append(_trial(model, helper.make_node(name, [], ["y"], domain=domain)))
    found += dict.fromkeys(_normalising(model, node) for node in model.graph.node if _folds(node))
    return tuple(found[:_MOST])


def _folds(node: onnx.NodeProto) -> bool:
    return node.op_type == "StringNormalizer" and not _domain(node.domain)


def _normalising(model: onnx.ModelProto, node: onnx.NodeProto) -> str:
    copy = onnx.NodeProto(op_type=node.op_type, input=["x"], output=["y"])
    copy.attribute.extend(node.attribute)
    return _trial(model, copy, helper.make_tensor_value_info("x", onnx.TensorProto.STRING, [1]))


def _is_new(model: onnx.ModelProto) -> bool:
    if model.ir_version > _KNOWN_IR_VERSION:
        return True
    return any(
        opset.version > _KNOWN_OPSETS.get(_domain(opset.domain), 1) for opset in model.opset_import
    )


def _unsure(model: onnx.ModelProto) -> set[Operator]:
    functions = {(_domain(f.domain), f.name): f for f in model.functions}
    used = set(_operators(model.graph.node))
    waiting = used & functions.keys()
    while waiting:
        inside = set(_operators(functions[waiting.pop()].node)) - used
        used |= inside
        waiting |= inside & functions.keys()
    return {
        (domain, name)
        for domain, name in used - functions.keys()
        if not onnx.defs.has(name, domain)
    }


def _operators(nodes: Iterable[onnx.NodeProto]) -> Iterator[Operator]:
    for node in nodes:
        yield _domain(node.domain), node.op_type
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _operators(graph.node)


def _trial(model: onnx.ModelProto, node: onnx.NodeProto, *inputs: onnx.ValueInfoProto) -> str:
    """Return a model of one node that makes ``y``, with the opsets and the version of ``model``."""
    graph = helper.make_graph([node], "trial", list(inputs), [onnx.ValueInfoProto(name="y")])
    opsets = list(model.opset_import)
    if all(_domain(opset.domain) for opset in opsets):
        opsets.append(helper.make_opsetid("", _ANY_OPSET))
    made = helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)
    return base64.b64encode(made.SerializeToString()).decode()


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name
