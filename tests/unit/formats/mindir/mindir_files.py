"""Writes small MindIR files in the encodings of several releases, and runs what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, Sequence

import numpy as np
import onnxruntime as ort

from serving.formats.mindir.convert import convert
from serving.formats.mindir.stubs import mindir_pb2 as pb

RELEASES = ("2.0", "2.10")
"""Two encodings of settings: attributes of a primitive, and inputs that are constants."""
A = pb.AttributeProto
DATA_TYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7,
    "bool": 9, "float16": 10, "float64": 11, "uint32": 12, "uint64": 13, "bfloat16": 16,
}  # fmt: skip
Shape = Sequence[int]
TensorLike = tuple[str, Shape]
"""A type as these tests write it: ("float32", (2, 3)); a list of such is a tuple of tensors."""


def tensor(stated: TensorLike, **fields: Any) -> pb.TensorProto:
    dtype, shape = stated
    return pb.TensorProto(data_type=DATA_TYPES[dtype], dims=shape, **fields)


def fill(attribute: pb.AttributeProto, value: Any, element: bool = False) -> pb.AttributeProto:
    """Write a value as MindSpore does: elements of sequences in the repeated fields."""
    if value is None:
        attribute.type = A.NONE
    elif isinstance(value, (tuple, list)):
        attribute.type = A.TUPLE
        for item in value:
            fill(attribute.values.add(), item, element=True)
    elif isinstance(value, np.ndarray):
        attribute.type = A.TENSORS
        attribute.tensors.append(array(value))
    else:
        _fill_scalar(attribute, value, element)
    return attribute


def _fill_scalar(attribute: pb.AttributeProto, value: Any, element: bool) -> None:
    kinds: tuple[tuple[type, int, str, str], ...] = (
        (bool, A.BOOL, "i", "ints"), (int, A.INT64, "i", "ints"),
        (float, A.FLOAT, "f", "floats"), (str, A.STRING, "s", "strings"),
    )  # fmt: skip
    _, kind, single, several = next(k for k in kinds if isinstance(value, k[0]))
    attribute.type = kind
    plain = {bool: int, str: str.encode}.get(type(value), type(value))(value)
    if element:
        getattr(attribute, several).append(plain)
    else:
        setattr(attribute, single, plain)


def array(values: np.ndarray[Any, Any]) -> pb.TensorProto:
    return tensor((str(values.dtype), values.shape), name="value0", raw_data=values.tobytes())


def state(attribute: pb.AttributeProto, stated: TensorLike | list[TensorLike]) -> None:
    """Write a type: TENSORS for one tensor, TUPLE for several."""
    if isinstance(stated, list):
        attribute.type = A.TUPLE
        for item in stated:
            state(attribute.values.add(), item)
    else:
        attribute.type = A.TENSORS
        attribute.tensors.append(tensor(stated))


class Net:
    """A MindIR file under construction; methods return the names of values."""

    def __init__(self, release: str = "2.10", name: str = "1_net") -> None:
        self.release = release
        self.model = pb.ModelProto(
            ir_version="1.1" if release == "2.10" else "0.1.1",
            producer_name="MindSpore",
            model_version=f"{release}.0",
            little_endian=True,
        )
        self.model.graph.name = name
        self.graph = self.model.graph
        self._count = 0

    def function(self, name: str) -> pb.GraphProto:
        """Begin a graph of its own; nodes go there until ``self.graph`` is set otherwise."""
        self.graph = self.model.functions.add(name=name)
        return self.graph

    def input(self, name: str, dtype: str, shape: Shape) -> str:
        info = self.graph.input.add(name=f"{self.graph.name}:{name}")
        info.tensor.append(tensor((dtype, shape)))
        return info.name

    def weight(self, name: str, values: np.ndarray[Any, Any]) -> str:
        stated = (str(values.dtype), values.shape)
        made = tensor(stated, name=f"{self.model.graph.name}:{name}", ref_key=name)
        made.raw_data = values.tobytes()
        self.model.graph.parameter.append(made)
        return made.name

    def constant(self, value: Any) -> str:
        node = self._node("Constant", ())
        fill(node.attribute.add(name="value"), value)
        return node.output[0]

    def monad(self) -> str:
        node = self._node("Constant", ())
        node.attribute.add(name="value", type=A.UMONAD)
        return node.output[0]

    def op(
        self,
        operator: str,
        inputs: Sequence[str],
        stated: TensorLike | list[TensorLike] | None,
        attributes: dict[str, Any] | None = None,
        **settings: Any,
    ) -> str:
        """Add a node; ``settings`` are written as the release does, ``attributes`` always so."""
        written = dict(attributes or {})
        given = list(inputs)
        if self.release == "2.10":
            given += [self.constant(v) for v in settings.values()]
        else:
            written |= settings
        primitive = self.model.primitives.add(name=f"{operator}:{self._count}", op_type=operator)
        for name, value in written.items():
            fill(primitive.attribute.add(name=name), value)
        node = self._node(f"REF::{primitive.name}", given)
        if stated is not None:
            state(node.attribute.add(name="shape"), stated)
        return node.output[0]

    def call(self, callee: str, inputs: Sequence[str], stated: TensorLike) -> str:
        """Call a graph, or the closure that a node has made, by name."""
        node = self._node(f"REF::{callee}", inputs)
        state(node.attribute.add(name="shape"), stated)
        return node.output[0]

    def output(self, name: str, stated: TensorLike | None = None) -> None:
        info = self.graph.output.add(name=name)
        if stated is not None:
            info.tensor.append(tensor(stated))

    def _node(self, op_type: str, inputs: Iterable[str]) -> pb.NodeProto:
        self._count += 1
        name = f"{self.graph.name}:node:{self._count}"
        operator = op_type.removeprefix("REF::").split(":")[0]
        scope = f"Default/{operator}-op{self._count}"
        return self.graph.node.add(
            input=inputs, output=[name], name=name, op_type=op_type, domain=scope
        )

    def save(self, path: Path) -> Path:
        path.write_bytes(self.model.SerializeToString())
        return path


def run(path: Path, *inputs: np.ndarray[Any, Any], key: bytes | None = None) -> list[Any]:
    """Convert a file, run the result in onnxruntime and return its outputs."""
    saved = path.with_suffix(".onnx")
    convert(path, key).save(saved)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(saved), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    found: list[Any] = session.run(None, dict(zip(names, inputs, strict=True)))
    return found


def run_net(net: Net, folder: Path, *inputs: np.ndarray[Any, Any]) -> list[Any]:
    """Save, convert and run a net."""
    return run(net.save(folder / "model.mindir"), *inputs)


def run_one(
    folder: Path,
    release: str,
    operator: str,
    inputs: Sequence[np.ndarray[Any, Any]],
    stated: TensorLike | list[TensorLike],
    attributes: dict[str, Any] | None = None,
    **settings: Any,
) -> list[Any]:
    """Run a net of one node whose tensors are the inputs of the net."""
    net = Net(release)
    names = [net.input(f"x{i}", str(v.dtype), v.shape) for i, v in enumerate(inputs)]
    net.output(net.op(operator, names, stated, attributes, **settings))
    return run_net(net, folder, *inputs)
