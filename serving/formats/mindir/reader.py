"""Reads a MindIR file into plain graphs, whatever release of MindSpore wrote it.

======================  ====================================================================
release                 how an operation is written
======================  ====================================================================
1.0                     ONNX's schema; see ``legacy``
1.1 to 1.10             operator and attributes on the node; early ones arranged by a text
2.0                     ``REF::<primitive>``; attributes on the primitive
2.1 to 2.10             as 2.0, but many attributes became inputs that are constants
======================  ====================================================================

The last difference is left to ``operator``, which looks an argument up among the inputs first
and then among the attributes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Mapping

from serving.formats.mindir.attributes import type_of, value_of
from serving.formats.mindir.broken import broken, unsupported
from serving.formats.mindir.container import Container, SplitWeights, open_container
from serving.formats.mindir.graph import (
    Constant,
    Graph,
    Input,
    Model,
    Monad,
    Node,
    Weight,
)
from serving.formats.mindir.legacy import read_legacy
from serving.formats.mindir.stubs import mindir_pb2
from serving.formats.mindir.tensors import check_size, tensor_type
from serving.formats.mindir.types import MONAD, OtherType, TupleType, Type

_REFERENCE = "REF::"
_CONSTANT = "Constant"
_SHAPE = "shape"

Constants = dict[str, Constant | Monad]


def read_model(path: Path, key: bytes | None = None) -> Model:
    """Return the content of a MindIR file and of the files of split weights beside it.

    ``key`` opens an encrypted one. Raises ``LoadError``, and ``OSError`` for an unreadable file.
    """
    container = open_container(path, key)
    if container.is_legacy:
        return read_legacy(container)
    proto = container.proto
    assert isinstance(proto, mindir_pb2.ModelProto)
    if not proto.HasField("graph") or not proto.graph.output:
        raise broken("it holds no graph with outputs")
    if proto.HasField("little_endian") and not proto.little_endian:
        raise unsupported("its numbers are big-endian")
    weights = _weights(container, proto, SplitWeights(path.parent, key))
    reader = _Reader(proto)
    graphs = [reader.graph(g, weights) for g in (proto.graph, *proto.functions)]
    return Model(
        main=graphs[0],
        graphs=by_name((g.name, g) for g in graphs),
        constants=reader.constants,
        weights=weights,
        version=proto.model_version or proto.producer_version,
    )


def by_name(items: Iterable[tuple[str, Graph]]) -> dict[str, Graph]:
    """Return graphs by name; raises ``LoadError`` for two of one name."""
    found: dict[str, Graph] = {}
    for name, graph in items:
        if name in found:
            raise broken(f"two graphs are called '{name}'")
        found[name] = graph
    return found


def _weights(
    container: Container, proto: mindir_pb2.ModelProto, split: SplitWeights
) -> dict[str, Weight]:
    found: dict[str, Weight] = {}
    for tensor, data in zip(proto.graph.parameter, container.data, strict=True):
        name = tensor.ref_key or tensor.name.rpartition(":")[2]
        what = f"weight '{name}'"
        if tensor.quant_params or tensor.compression_type:
            raise unsupported(f"{what} is quantised or compressed")
        if tensor.HasField("external_data"):
            place = tensor.external_data
            data = split.view(name, place.location, place.offset, place.length)
        stated = tensor_type(tensor, what)
        check_size(stated, len(data), what)
        if tensor.name in found:
            raise broken(f"two weights are called '{name}'")
        found[tensor.name] = Weight(name, stated, data)
    return found


class _Reader:
    """Reads the graphs of one file; constants are gathered over all of them first."""

    def __init__(self, proto: mindir_pb2.ModelProto) -> None:
        self._primitives = {p.name: p for p in proto.primitives}
        self._attributes: dict[str, Mapping[str, Constant]] = {}
        self.constants = _constants((proto.graph, *proto.functions))

    def graph(self, proto: mindir_pb2.GraphProto, weights: Mapping[str, Weight]) -> Graph:
        results = tuple(_stated_type(o, f"output '{o.name}'") for o in proto.output)
        return Graph(
            name=proto.name,
            inputs=tuple(
                Input(i.name, _stated_type(i, f"input '{i.name}'"))
                for i in proto.input
                if i.name not in weights
            ),
            nodes=tuple(self._node(n) for n in proto.node if n.op_type != _CONSTANT),
            outputs=tuple(o.name for o in proto.output),
            result=results[0] if len(results) == 1 else TupleType(results),
        )

    def _node(self, proto: mindir_pb2.NodeProto) -> Node:
        if len(proto.output) != 1:
            raise broken(f"the node '{proto.name}' has {len(proto.output)} outputs instead of one")
        output = proto.output[0]
        what = f"node '{proto.domain or output}'"
        operator, callee = proto.op_type, ""
        attributes = _values((a for a in proto.attribute if not _is_type(a)), what)
        if operator.startswith(_REFERENCE):
            name = operator.removeprefix(_REFERENCE)
            if name in self._primitives:
                operator = self._primitives[name].op_type
                attributes = {**self._primitive(name), **attributes}
            else:
                operator, callee = "", name
        return Node(
            output=output,
            operator=operator,
            inputs=tuple(proto.input),
            type=_node_type(proto, what),
            attributes=attributes,
            callee=callee,
            scope=proto.domain,
        )

    def _primitive(self, name: str) -> Mapping[str, Constant]:
        if name not in self._attributes:
            primitive = self._primitives[name]
            self._attributes[name] = _values(primitive.attribute, f"operator '{name}'")
        return self._attributes[name]


def _constants(graphs: Iterable[mindir_pb2.GraphProto]) -> Constants:
    found: Constants = {}
    for graph in graphs:
        for node in graph.node:
            if node.op_type != _CONSTANT:
                continue
            if len(node.output) != 1 or len(node.attribute) != 1:
                raise broken(f"the constant '{node.name}' is not one value")
            name = node.output[0]
            if name in found:
                raise broken(f"two constants are called '{name}'")
            found[name] = value_of(node.attribute[0], f"constant '{name}'")
    return found


def _values(attributes: Iterable[mindir_pb2.AttributeProto], what: str) -> dict[str, Constant]:
    read = ((a.name, value_of(a, f"attribute '{a.name}' of {what}")) for a in attributes)
    return {name: value for name, value in read if not isinstance(value, Monad)}


def _is_type(attribute: mindir_pb2.AttributeProto) -> bool:
    return bool(attribute.name == _SHAPE or attribute.ref_attr_name.startswith("shape:"))


def _node_type(proto: mindir_pb2.NodeProto, what: str) -> Type:
    stated = next((a for a in proto.attribute if _is_type(a)), None)
    return OtherType("untyped") if stated is None else type_of(stated, what)


def _stated_type(proto: mindir_pb2.ValueInfoProto, what: str) -> Type:
    if proto.denotation.endswith("MonadType"):
        return MONAD
    if proto.HasField("attr_info"):
        return type_of(proto.attr_info, what)
    if len(proto.tensor) != 1:
        return OtherType(proto.denotation or "untyped")
    return tensor_type(proto.tensor[0], what)
