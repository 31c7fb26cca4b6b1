"""Reads the MindIR of MindSpore 1.0: ONNX's schema with MindSpore's operators and attributes.

Seen in a file written by 1.0.0. Attributes hold their elements in tensors, arranged by a text
(``attribute_text``); the type of a node's output is an attribute without a name; weights are
initializers and listed as inputs too.
"""

from __future__ import annotations

from serving.formats.mindir.attribute_text import arranged, tensor_values
from serving.formats.mindir.broken import broken
from serving.formats.mindir.container import Container
from serving.formats.mindir.graph import Constant, Graph, Input, Model, Monad, Node, Weight
from serving.formats.mindir.stubs import mindir_pb2
from serving.formats.mindir.tensors import check_size, dtype_of, shape_of, tensor_type
from serving.formats.mindir.types import OtherType, TensorType, TupleType, Type


def read_legacy(container: Container) -> Model:
    """Return the content of a file of MindSpore 1.0; raises ``LoadError``."""
    proto = container.proto
    assert isinstance(proto, mindir_pb2.LegacyModelProto)
    graph = proto.graph
    if not graph.output:
        raise broken("it holds no graph with outputs")
    weights: dict[str, Weight] = {}
    for tensor, data in zip(graph.initializer, container.data, strict=True):
        name = tensor.name.rpartition(":")[2]
        stated = tensor_type(tensor, f"weight '{name}'")
        check_size(stated, len(data), f"weight '{name}'")
        weights[tensor.name] = Weight(name, stated, data)
    constants = {
        n.output[0]: _constant(n) for n in graph.node if n.op_type == "Constant" and n.output
    }
    results = tuple(_stated_type(o, f"output '{o.name}'") for o in graph.output)
    main = Graph(
        name=graph.name,
        inputs=tuple(
            Input(i.name, _stated_type(i, f"input '{i.name}'"))
            for i in graph.input
            if i.name not in weights
        ),
        nodes=tuple(_node(n) for n in graph.node if n.op_type != "Constant"),
        outputs=tuple(o.name for o in graph.output),
        result=results[0] if len(results) == 1 else TupleType(results),
    )
    return Model(main, {main.name: main}, constants, weights, "1.0")


def _constant(node: mindir_pb2.LegacyNodeProto) -> Constant | Monad:
    what = f"constant '{node.output[0]}'"
    if len(node.attribute) != 1:
        raise broken(f"{what} is not one value")
    return _value(node.attribute[0], what)


def _value(attribute: mindir_pb2.LegacyAttributeProto, what: str) -> Constant | Monad:
    return arranged(attribute.ref_attr_name, tensor_values(attribute, what), what)


def _node(node: mindir_pb2.LegacyNodeProto) -> Node:
    if len(node.output) != 1:
        raise broken(f"the node '{node.name}' has {len(node.output)} outputs instead of one")
    what = f"node '{node.domain or node.output[0]}'"
    attributes: dict[str, Constant] = {}
    stated: Type = OtherType("untyped")
    for attribute in node.attribute:
        if attribute.ref_attr_name.startswith("shape:"):
            stated = _stated(attribute, what)
            continue
        value = _value(attribute, f"attribute '{attribute.name}' of {what}")
        if not isinstance(value, Monad):
            attributes[attribute.name] = value
    return Node(
        output=node.output[0],
        operator=node.op_type,
        inputs=tuple(node.input),
        type=stated,
        attributes=attributes,
        scope=node.domain,
    )


def _stated(attribute: mindir_pb2.LegacyAttributeProto, what: str) -> Type:
    types = tuple(tensor_type(t, what) for t in attribute.tensors)
    return types[0] if len(types) == 1 else TupleType(types)


def _stated_type(info: mindir_pb2.LegacyValueInfoProto, what: str) -> Type:
    tensor = info.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
    return TensorType(dtype_of(tensor.elem_type, what), shape_of(dims, what))
