"""What a name of a MindIR graph stands for while the graph is being converted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from serving.formats.mindir.graph import Constant, Monad, Opaque, Weight
from serving.formats.mindir.types import TensorType
from serving.tensor import DType


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the ONNX graph, by name; its type is the one that it is computed in."""

    name: str
    type: TensorType

    @property
    def dtype(self) -> DType:
        """Return the element type."""
        return self.type.dtype

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Return the lengths, -1 where one varies; ``None`` for an unknown rank."""
        return self.type.shape


@dataclass(frozen=True, eq=False)
class Known:
    """A constant that is no tuple (a tuple is a Python tuple of values)."""

    value: Constant


@dataclass(frozen=True, eq=False)
class Absent:
    """An output that MindSpore computes and the conversion does not; using it is refused."""

    what: str


@dataclass(frozen=True, eq=False)
class Closure:
    """A graph with its first arguments given."""

    graph: str
    arguments: tuple[Value, ...] = ()


@dataclass(frozen=True, eq=False)
class Choice:
    """One of two closures, by a condition that is known only while the model runs."""

    condition: Value
    on_true: Value
    on_false: Value


@dataclass(frozen=True, eq=False)
class Again:
    """A call that is made by others: of a loop's header by the loop, of what follows a branch."""

    header: str
    arguments: tuple[Value, ...]


Value = Union[Tensor, Known, Weight, Monad, Absent, Closure, Choice, Again, tuple["Value", ...]]


def of_constant(constant: Constant | Monad) -> Value:
    """Return the value of a constant of the file."""
    if isinstance(constant, tuple):
        return tuple(of_constant(c) for c in constant)
    if isinstance(constant, Monad):
        return constant
    return Known(constant)


def describe(value: Value) -> str:
    """Return for people what kind of thing a value is."""
    if isinstance(value, Tensor):
        return "a tensor that is computed while the model runs"
    if isinstance(value, Weight):
        return "a weight"
    if isinstance(value, Known):
        return f"a {value.value.kind}" if isinstance(value.value, Opaque) else "a constant"
    if isinstance(value, tuple):
        return "a tuple"
    if isinstance(value, Absent):
        return f"the {value.what}, which ONNX does not compute"
    return {Monad: "a token of order", Again: "the result of a recursion"}.get(
        type(value), "a function"
    )
