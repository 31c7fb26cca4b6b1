"""Damages MindIR files: blindly, byte by byte, and with knowledge of what the fields mean."""

from __future__ import annotations

import random
from typing import Any, Callable

import serving.formats.mindir.operators  # noqa: F401  fills the table of conversions
from serving.formats.mindir.registry import converted_primitives
from serving.formats.mindir.stubs import mindir_pb2 as pb
from serving.formats.mindir.walk import PLUMBING

A = pb.AttributeProto
HUGE = (2**62, 2**40, 2**31, 10**6, -(2**62), -7, -2, -1, 0, 1)
PRIMITIVES = [*PLUMBING, *sorted(converted_primitives()), "", "Nothing"]
Bytes = Callable[[random.Random, bytearray], None]
Message = Callable[[random.Random, pb.ModelProto], None]


# --- of bytes ----------------------------------------------------------------------------------


def cut(rng: random.Random, content: bytearray) -> None:
    del content[rng.randrange(len(content)) :]


def flip_bits(rng: random.Random, content: bytearray) -> None:
    for _ in range(rng.choice((1, 3, 40))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def drop_span(rng: random.Random, content: bytearray) -> None:
    start = rng.randrange(len(content))
    del content[start : start + rng.randrange(1, 200)]


def repeat_span(rng: random.Random, content: bytearray) -> None:
    start = rng.randrange(len(content))
    content[start:start] = content[start : start + rng.randrange(1, 2000)]


def insert_noise(rng: random.Random, content: bytearray) -> None:
    start = rng.randrange(len(content))
    content[start:start] = rng.randbytes(rng.randrange(1, 64))


def change_length(rng: random.Random, content: bytearray) -> None:
    """Overwrite the length of one of the outermost fields, or of one within it."""
    place = 0
    for _ in range(rng.randrange(1, 40)):
        if place + 2 >= len(content):
            break
        tag = content[place]
        length, after = varint(content, place + 1)
        if tag & 7 != 2:
            place = after
        else:
            place = place + 1 if rng.random() < 0.5 else min(after + length, len(content) - 2)
    place = min(place + 1, len(content) - 1)
    content[place : place + 1] = rng.choice(
        (b"\xff\xff\xff\xff\x0f", b"\x00", b"\x7f", b"\xff" * 11)
    )


def varint(content: bytearray, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(content) and shift < 64:
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            break
    return value, place


# --- of messages -------------------------------------------------------------------------------


def graphs(model: pb.ModelProto) -> list[pb.GraphProto]:
    return [model.graph, *model.functions]


def any_graph(rng: random.Random, model: pb.ModelProto) -> pb.GraphProto:
    return rng.choice([g for g in graphs(model) if g.node])


def any_node(rng: random.Random, model: pb.ModelProto) -> pb.NodeProto:
    return rng.choice(any_graph(rng, model).node)


def any_operation(rng: random.Random, model: pb.ModelProto) -> pb.NodeProto:
    """Choose a node that computes, so that most damage matters."""
    found = [n for g in graphs(model) for n in g.node if n.op_type != "Constant"]
    return rng.choice(found) if found else any_node(rng, model)


def any_constant(rng: random.Random, model: pb.ModelProto) -> pb.AttributeProto:
    """Choose a constant's value or a primitive's setting."""
    nodes = [n for g in graphs(model) for n in g.node if n.op_type == "Constant"]
    found = [a for owner in (*nodes, *model.primitives) for a in owner.attribute]
    return rng.choice(found) if found else model.graph.attribute.add()


def any_tensor(rng: random.Random, model: pb.ModelProto) -> pb.TensorProto:
    """Choose a type that is stated somewhere: of a weight, an input, a node or a constant."""
    found = list(model.graph.parameter)
    for graph in graphs(model):
        found += [t for i in (*graph.input, *graph.output) for t in i.tensor]
        found += [t for n in graph.node for a in n.attribute for t in a.tensors]
    return rng.choice(found) if found else model.graph.parameter.add()


def swap_nodes(rng: random.Random, model: pb.ModelProto) -> None:
    nodes = any_graph(rng, model).node
    one, other = rng.choice(nodes), rng.choice(nodes)
    kept = pb.NodeProto()
    kept.CopyFrom(one)
    one.CopyFrom(other)
    other.CopyFrom(kept)


def close_cycle(rng: random.Random, model: pb.ModelProto) -> None:
    """Let a node read what it makes itself, or what is made later."""
    graph = any_graph(rng, model)
    node = rng.choice(graph.node)
    if node.input:
        made = [o for n in graph.node for o in n.output]
        node.input[rng.randrange(len(node.input))] = rng.choice([*node.output, *made, "x"])


def rewire(rng: random.Random, model: pb.ModelProto) -> None:
    node = any_operation(rng, model)
    names = [o for g in graphs(model) for n in g.node for o in n.output]
    names += [p.name for p in model.graph.parameter] + [g.name for g in graphs(model)]
    for place in range(len(node.input)):
        if rng.random() < 0.5:
            node.input[place] = rng.choice(names)


def change_inputs(rng: random.Random, model: pb.ModelProto) -> None:
    node = any_operation(rng, model)
    names = list(node.input)
    node.input[:] = rng.choice(([], names[::-1], names * 30, names[:-1], names[1:]))


def drop_node(rng: random.Random, model: pb.ModelProto) -> None:
    nodes = any_graph(rng, model).node
    del nodes[rng.randrange(len(nodes))]


def double_node(rng: random.Random, model: pb.ModelProto) -> None:
    any_graph(rng, model).node.append(any_node(rng, model))


def change_dims(rng: random.Random, model: pb.ModelProto) -> None:
    tensor = any_tensor(rng, model)
    dims = list(tensor.dims)
    if dims and rng.random() < 0.7:
        dims[rng.randrange(len(dims))] = rng.choice(HUGE)
    else:
        dims = [rng.choice(HUGE) for _ in range(rng.choice((0, 1, 3, 9, 70)))]
    tensor.dims[:] = dims


def change_dtype(rng: random.Random, model: pb.ModelProto) -> None:
    any_tensor(rng, model).data_type = rng.randrange(0, 19)


def change_data(rng: random.Random, model: pb.ModelProto) -> None:
    tensor = any_tensor(rng, model)
    tensor.raw_data = rng.choice((b"", tensor.raw_data[:-1], tensor.raw_data * 2, b"\xff" * 24))


def drop_weight(rng: random.Random, model: pb.ModelProto) -> None:
    weights = model.graph.parameter
    if weights:
        del weights[rng.randrange(len(weights))]


def send_weight_away(rng: random.Random, model: pb.ModelProto) -> None:
    if model.graph.parameter:
        place = rng.choice(model.graph.parameter).external_data
        place.location = rng.choice(("", "/etc/passwd", "../../x", "m_variables/data_0", "\0", "."))
        place.offset, place.length = rng.choice(HUGE), rng.choice(HUGE)


def change_constant(rng: random.Random, model: pb.ModelProto) -> None:
    value = any_constant(rng, model)
    leaves = [v for v in value.values if v.ints or v.floats] or [value]
    for leaf in leaves:
        if leaf.ints:
            leaf.ints[:] = [rng.choice(HUGE) for _ in leaf.ints]
        elif leaf.HasField("i"):
            leaf.i = rng.choice(HUGE)
        elif leaf.HasField("f"):
            leaf.f = rng.choice((float("nan"), float("inf"), -1e38, 0.0))


def change_kind(rng: random.Random, model: pb.ModelProto) -> None:
    any_constant(rng, model).type = rng.choice(list(A.AttributeType.values()))


def nest_constant(rng: random.Random, model: pb.ModelProto) -> None:
    value = any_constant(rng, model)
    value.Clear()
    for _ in range(rng.choice((2, 30, 90))):
        value.type = A.TUPLE
        value = value.values.add(name="value")
    value.type = A.INT64
    value.ints.append(1)


def lengthen_constant(rng: random.Random, model: pb.ModelProto) -> None:
    value = any_constant(rng, model)
    value.type = A.TUPLE
    for _ in range(rng.choice((3, 40, 3000))):
        value.values.add(type=A.INT64).ints.append(rng.choice(HUGE))


def change_operator(rng: random.Random, model: pb.ModelProto) -> None:
    """Let a node compute something else, call a graph, or call itself."""
    names = ["", "Constant", "REF::", "REF::nothing"]
    names += [f"REF::{p.name}" for p in model.primitives]
    names += [f"REF::{g.name}" for g in graphs(model)]
    any_operation(rng, model).op_type = rng.choice(names)


def change_primitive(rng: random.Random, model: pb.ModelProto) -> None:
    if model.primitives:
        names = [*PRIMITIVES, *(p.op_type for p in model.primitives)]
        rng.choice(model.primitives).op_type = rng.choice(names)


def drop_attribute(rng: random.Random, model: pb.ModelProto) -> None:
    owners = [n for g in graphs(model) for n in g.node if n.attribute]
    owners += [p for p in model.primitives if p.attribute]
    if owners:
        chosen = rng.choice(owners)
        del chosen.attribute[rng.randrange(len(chosen.attribute))]


def recurse(rng: random.Random, model: pb.ModelProto) -> None:
    """Let a graph call a graph, most likely one that it comes from."""
    graph = any_graph(rng, model)
    callee = rng.choice(graphs(model)).name
    node = graph.node.add(op_type=f"REF::{callee}", name="again", output=["again"])
    node.input[:] = [i.name for i in graph.input]
    if graph.output:
        graph.output[0].name = "again"


def rename(rng: random.Random, model: pb.ModelProto) -> None:
    graph = any_graph(rng, model)
    owners: list[Any] = [
        graph,
        *graph.input,
        *graph.output,
        *model.graph.parameter,
        *model.primitives,
    ]
    rng.choice(owners).name = rng.choice(("", "x", "a" * 5000, "é\n\t", rng.choice(owners).name))


def change_graph(rng: random.Random, model: pb.ModelProto) -> None:
    """Clear a list of a graph, or write it twice."""
    graph = any_graph(rng, model)
    field: Any = getattr(graph, rng.choice(("input", "output", "node", "attribute")))
    if rng.random() < 0.5:
        del field[:]
    else:
        field.extend(list(field))


def change_header(rng: random.Random, model: pb.ModelProto) -> None:
    model.ClearField(rng.choice([field.name for field, _ in model.ListFields()]))


OF_BYTES: tuple[Bytes, ...] = (cut, flip_bits, drop_span, repeat_span, insert_noise, change_length)
OF_MESSAGES: tuple[Message, ...] = (
    swap_nodes, close_cycle, rewire, change_inputs, drop_node, double_node, change_dims,
    change_dtype, change_data, drop_weight, send_weight_away, change_constant, change_kind,
    nest_constant, lengthen_constant, change_operator, change_primitive, drop_attribute, recurse,
    rename, change_graph, change_header,
)  # fmt: skip


def damaged(rng: random.Random, content: bytes) -> tuple[str, bytes]:
    """Return a damaged file and what was done to it; an encrypted one is damaged blindly."""
    if rng.random() < 0.25 or not content.startswith(b"\x0a"):
        chosen = rng.choice(OF_BYTES)
        copy = bytearray(content)
        chosen(rng, copy)
        return chosen.__name__, bytes(copy)
    model = pb.ModelProto.FromString(content)
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not any(g.node for g in graphs(model)):
            break
        change = rng.choice(OF_MESSAGES)
        change(rng, model)
        done.append(change.__name__)
    return "+".join(done), model.SerializeToString()
