"""Converts a MindIR file to an ONNX model that engines run without MindSpore."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Sequence

import onnx

import serving
from serving.formats.mindir import operators as _  # noqa: F401  fills the table of conversions
from serving.formats.mindir.broken import broken, unsupported
from serving.formats.mindir.builder import (
    IR_VERSION,
    OPSET,
    Builder,
    Initializer,
    pruned,
    read_names,
    value_info,
)
from serving.formats.mindir.control import choose, flat, loop
from serving.formats.mindir.graph import Graph, Input, Model, Monad, Node
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.reach import Reach, require_covered
from serving.formats.mindir.reader import read_model
from serving.formats.mindir.registry import converted_primitives
from serving.formats.mindir.types import MONAD, OtherType, TensorType, TupleType, Type, run_dtype
from serving.formats.mindir.value import Tensor, Value
from serving.formats.mindir.walk import PLUMBING, Walk

INLINE_BYTES = 64 << 20
"""Weights of more than this in all are written to a file of their own."""
_SMALL_BYTES, _ALIGNMENT = 1024, 4096
_PIECE_BYTES = 64 << 20


@dataclass(frozen=True)
class Converted:
    """An ONNX model whose weights still lie in the MindIR file; ``save`` brings both together."""

    model: onnx.ModelProto
    initializers: Sequence[Initializer]

    def save(self, path: Path, wrote: Callable[[int], None] | None = None) -> None:
        """Write the model, and large weights beside it in ``<name>.data``.

        ``wrote`` is told now and then how many bytes of weights were written in all.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        inline = sum(len(i.data) for i in self.initializers) <= INLINE_BYTES
        beside = path.with_name(path.name + ".data")
        outside: list[Initializer] = []
        for initializer in self.initializers:
            tensor = model.graph.initializer.add()
            tensor.CopyFrom(initializer.tensor)
            if inline or len(initializer.data) <= _SMALL_BYTES:
                tensor.raw_data = bytes(initializer.data)
            else:
                outside.append(Initializer(tensor, initializer.data))
        if outside:
            _write_outside(beside, outside, wrote)
        path.write_bytes(model.SerializeToString())


def convert(path: Path, key: bytes | None = None) -> Converted:
    """Return the ONNX model of a MindIR file; ``key`` opens an encrypted one.

    Raises ``LoadError`` for a file that is damaged, encrypted with another key, or uses what has
    no conversion, and ``OSError`` for one that cannot be read.
    """
    return converted(read_model(path, key))


def converted(model: Model) -> Converted:
    """Return the ONNX model of a MindIR model; raises ``LoadError``."""
    reach = Reach(model)
    require_covered(reach, {*PLUMBING, *converted_primitives()})
    builder = Builder()
    inputs = [_declared(i) for i in model.main.inputs]
    infos = [
        value_info(builder.fresh(_plain_name(i.name)), t)
        for i, t in zip(model.main.inputs, inputs, strict=True)
        if t is not None
    ]
    walk = Walk(model, builder, reach, choose, loop)
    result = walk.call(model.main, list(_entering(builder, model.main, inputs, infos)))
    outputs = _leaving(builder, model.main, result)
    nodes = pruned(builder.nodes, [o.name for o in outputs])
    graph = onnx.helper.make_graph(nodes, _plain_name(model.main.name) or "network", infos, outputs)
    made = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="serving",
        producer_version=serving.__version__,
    )
    names = read_names(graph)
    kept = [i for i in builder.initializers if i.tensor.name in names]
    return Converted(made, kept)


def _declared(stated: Input) -> TensorType | None:
    """Return the type that callers send; ``None`` for a token, which nobody sends."""
    if stated.type == MONAD:
        return None
    if not isinstance(stated.type, TensorType):
        raise unsupported(f"input '{_plain_name(stated.name)}' is not a tensor")
    return stated.type


def _entering(
    builder: Builder,
    graph: Graph,
    types: Sequence[TensorType | None],
    infos: Sequence[onnx.ValueInfoProto],
) -> Iterator[Value]:
    """Yield the main graph's arguments; bfloat16 becomes what it is computed in."""
    names = iter(infos)
    for stated, type_ in zip(graph.inputs, types, strict=True):
        if type_ is None:
            yield Monad()
            continue
        tensor = Tensor(next(names).name, type_)
        helper = Operator(Node(stated.name, "Input", (), type_), (), (), builder)
        yield helper.cast(tensor, run_dtype(type_.dtype))


def _leaving(builder: Builder, graph: Graph, result: Value) -> list[onnx.ValueInfoProto]:
    """Name the results: ``output``, or ``output_0`` and on, for MindSpore names none."""
    leaves = [leaf for leaf in flat(result) if not isinstance(leaf, Monad)]
    if not leaves:
        raise broken("its network gives nothing")
    types = _leaf_types(graph.result, len(leaves))
    infos = []
    for i, (leaf, stated) in enumerate(zip(leaves, types, strict=True)):
        node = Node(graph.name, "Output", (), stated)
        helper = Operator(node, (), (), builder)
        tensor = helper.as_tensor(leaf)
        if isinstance(stated, TensorType):
            tensor = helper.cast(tensor, stated.dtype)
        hint = "output" if len(leaves) == 1 else f"output_{i}"
        (named,) = builder.node("Identity", [tensor], [tensor.type], hint, {})
        infos.append(value_info(named.name, named.type))
    return infos


def _leaf_types(stated: Type, count: int) -> list[Type]:
    """Return the types of the results, or unknown ones if the file does not state each."""
    pending, found = [stated], list[Type]()
    while pending:
        one = pending.pop(0)
        if isinstance(one, TupleType):
            pending[:0] = one.items
        elif one != MONAD:
            found.append(one)
    return found if len(found) == count else [OtherType("untyped")] * count


def _plain_name(name: str) -> str:
    """Return the user's name of an input: the part after the graph's."""
    return name.partition(":")[2] or name


def _write_outside(
    path: Path, initializers: Sequence[Initializer], wrote: Callable[[int], None] | None
) -> None:
    """Write weights one after the other, each at a page's start so that it can be mapped."""
    with path.open("wb") as file:
        for initializer in initializers:
            file.write(bytes(-file.tell() % _ALIGNMENT))
            places = {"location": path.name, "offset": file.tell(), "length": len(initializer.data)}
            tensor = initializer.tensor
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in places.items():
                tensor.external_data.add(key=key, value=str(value))
            for start in range(0, len(initializer.data), _PIECE_BYTES):
                file.write(initializer.data[start : start + _PIECE_BYTES])
                if wrote is not None:
                    wrote(file.tell())
