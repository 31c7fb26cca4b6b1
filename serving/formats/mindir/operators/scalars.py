"""Numbers outside tensors, mostly lengths, and tuples of them: what Python computed with shapes.

Sources: ``mindspore.ops.operations`` ScalarToTensor, TensorToScalar, TupleToTensor,
SequenceSlice, ... and the rules by which MindSpore's graph mode writes Python's operators on
numbers (ScalarAdd, ScalarFloorDiv, ...; 2.0 to 2.10). What is constant is computed here, the rest
becomes ONNX nodes on tensors of rank 0.
"""

from __future__ import annotations

import math
import operator as python
from functools import partial
from typing import Callable, Union

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.elementary import is_whole
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import ScalarType, TensorType, run_dtype
from serving.formats.mindir.value import Known, Tensor, Value
from serving.tensor import BOOL, FP32, INT64, DType

Number = Union[bool, int, float]
_MAX_ITEMS = 1 << 16
"""Items that a tuple may be repeated to; a file may ask for any number."""


def _floor_div(f: Formula, x: Tensor, y: Tensor) -> Tensor:
    if not is_whole(x):
        return f("Floor", f("Div", x, y))
    return f("Div", f("Sub", x, f("Mod", x, y)), y)


def _modulo(f: Formula, x: Tensor, y: Tensor) -> Tensor:
    return f("Mod", x, y) if is_whole(x) else f("Sub", x, f("Mul", _floor_div(f, x, y), y))


def _plain(name: str) -> Callable[[Formula, Tensor, Tensor], Tensor]:
    return lambda f, x, y: f(name, x, y)


_TWO: dict[str, tuple[Callable[[Number, Number], Number], Callable[..., Tensor]]] = {
    "ScalarAdd": (python.add, _plain("Add")),
    "ScalarSub": (python.sub, _plain("Sub")),
    "ScalarMul": (python.mul, _plain("Mul")),
    "ScalarDiv": (python.truediv, _plain("Div")),
    "ScalarRealDiv": (python.truediv, _plain("Div")),
    "ScalarFloorDiv": (python.floordiv, _floor_div),
    "ScalarFloordiv": (python.floordiv, _floor_div),
    "ScalarMod": (python.mod, _modulo),
    "ScalarMax": (max, _plain("Max")),
    "ScalarMin": (min, _plain("Min")),
}
_COMPARED: dict[str, tuple[Callable[[Number, Number], bool], str]] = {
    "Eq": (python.eq, "Equal"), "Lt": (python.lt, "Less"), "Le": (python.le, "LessOrEqual"),
    "Gt": (python.gt, "Greater"), "Ge": (python.ge, "GreaterOrEqual"),
}  # fmt: skip


def _known(op: Operator, *names: str) -> list[Number] | None:
    """Return the constants of these names, or ``None`` if one is computed."""
    found: list[Number] = []
    for name in names:
        value = op.value(name)
        if not isinstance(value, Known):
            return None
        if isinstance(value.value, np.ndarray) and value.value.size == 1:
            found.append(value.value.reshape(-1)[0].item())
        elif isinstance(value.value, (bool, int, float)):
            found.append(value.value)
        else:
            op.refuse(f"takes a number as '{name}'")
    return found


def _single(op: Operator, name: str, dtype: DType | None = None) -> Tensor:
    tensor = op.tensor(name, dtype)
    return tensor if tensor.shape == () else op.reshape(tensor, ())


def _stated(op: Operator) -> DType:
    """Return the type of the number that the node gives."""
    if not isinstance(op.node.type, (ScalarType, TensorType)):
        op.refuse("does not say what number it gives")
    return run_dtype(op.node.type.dtype)


def _two(op: Operator, fold: Callable[..., Number], emit: Callable[..., Tensor]) -> Value:
    known = _known(op, "x", "y")
    if known is not None:
        return Known(fold(*known))
    f = Formula(op, _stated(op))
    return emit(f, _single(op, "x", f.dtype), _single(op, "y", f.dtype))


def _compare(op: Operator, fold: Callable[..., bool], operator: str) -> Value:
    known = _known(op, "x", "y")
    if known is not None:
        return Known(fold(*known))
    x, y = _single(op, "x"), _single(op, "y")
    dtype = x.dtype if is_whole(x) and is_whole(y) else FP32
    if dtype is BOOL or (is_whole(y) and is_whole(x)):
        dtype = INT64
    return Formula(op, dtype)(operator, op.cast(x, dtype), op.cast(y, dtype))


for _name, (_fold, _emit) in _TWO.items():
    converts(_name, arguments="x y")(partial(_two, fold=_fold, emit=_emit))
for _name, (_test, _operator) in _COMPARED.items():
    converts(f"Scalar{_name}", f"scalar_{_name.lower()}", arguments="x y")(
        partial(_compare, fold=_test, operator=_operator)
    )


@converts("ScalarPow", arguments="x y")
def power(op: Operator) -> Value:
    """``x ** y``."""
    known = _known(op, "x", "y")
    if known is not None:
        # math.pow gives an infinity's error where Python would compute for ever.
        whole = all(isinstance(n, int) for n in known) and known[1] >= 0
        found = math.pow(*known)
        return Known(int(known[0] ** known[1]) if whole and abs(found) < 2**63 else found)
    f = Formula(op, _stated(op))
    return f("Pow", _single(op, "x", f.dtype), _single(op, "y", f.dtype))


@converts("ScalarUsub", "ScalarUadd", arguments="x")
def signed(op: Operator) -> Value:
    """``-x`` or ``+x``."""
    negative = op.node.operator == "ScalarUsub"
    known = _known(op, "x")
    if known is not None:
        return Known(-known[0] if negative else +known[0])
    x = _single(op, "x", _stated(op))
    return Formula(op, x.dtype)("Neg", x) if negative else x


@converts("ScalarLog", arguments="x")
def logarithm(op: Operator) -> Value:
    """The natural logarithm."""
    known = _known(op, "x")
    if known is not None:
        return Known(math.log(known[0]))
    f = Formula(op, _stated(op))
    return f("Log", _single(op, "x", f.dtype))


@converts("ScalarBool", "ScalarBoolNot", "ScalarNot", arguments="x")
def truth(op: Operator) -> Value:
    """Whether a number is not 0, or is 0."""
    denied = op.node.operator != "ScalarBool"
    known = _known(op, "x")
    if known is not None:
        return Known(bool(known[0]) is not denied)
    x = _single(op, "x", BOOL)
    return Formula(op, BOOL)("Not", x) if denied else x


@converts("ScalarCast", arguments="x dtype")
def scalar_cast(op: Operator) -> Value:
    """The number as another type."""
    dtype = _stated(op)
    known = _known(op, "x")
    if known is not None:
        return Known(np.array(known[0]).astype(dtype.numpy).item())
    return _single(op, "x", dtype)


@converts("ScalarToTensor", "scalar_to_tensor", arguments="x dtype")
def scalar_to_tensor(op: Operator) -> Tensor:
    """A number as a tensor of rank 0."""
    return _single(op, "x", op.output.dtype)


@converts("TensorToScalar", arguments="x")
def tensor_to_scalar(op: Operator) -> Value:
    """The only element of a tensor as a number."""
    known = _known(op, "x") if isinstance(op.value("x"), Known) else None
    return Known(known[0]) if known else _single(op, "x", _stated(op))


@converts("TupleToTensor", "ListToTensor", arguments="items dtype")
def tuple_to_tensor(op: Operator) -> Tensor:
    """Numbers as a tensor of one axis."""
    items = op.value("items")
    if not isinstance(items, tuple):
        op.refuse("takes a tuple")
    dtype = op.output.dtype
    if all(isinstance(i, Known) for i in items):
        return op.tensor("items", dtype)
    singles = [op.reshape(op.as_tensor(i, dtype), (1,)) for i in items]
    return op.emit("Concat", *singles, axis=0)


@converts("TensorToTuple", "TensorToList", arguments="x")
def tensor_to_tuple(op: Operator) -> Value:
    """The elements of a tensor of one axis as numbers."""
    x = op.tensor("x")
    dims = op.static_dims(x)
    if len(dims) != 1 or dims[0] > _MAX_ITEMS:
        op.refuse(f"takes apart a tensor of shape {dims}")
    places = (op.constant(np.array(i, np.int64)) for i in range(dims[0]))
    element = TensorType(x.dtype, ())
    return tuple(op.emit("Gather", x, p, type=element, axis=0) for p in places)


def _items(op: Operator, name: str) -> tuple[Value, ...]:
    found = op.value(name)
    if not isinstance(found, tuple):
        op.refuse(f"takes a tuple as '{name}'")
    return found


@converts("SequenceSlice", arguments="items start stop step")
def sequence_slice(op: Operator) -> Value:
    """Some items, as Python's ``items[start:stop:step]``."""
    bounds = [op.integer(n) if op.has(n) else None for n in ("start", "stop", "step")]
    return _items(op, "items")[slice(*bounds)]


@converts("SequenceLen", "sequence_len", arguments="items")
def sequence_len(op: Operator) -> Value:
    """How many items there are."""
    return Known(len(_items(op, "items")))


@converts("SequenceAdd", arguments="items others")
def sequence_add(op: Operator) -> Value:
    """The items of one tuple and then those of another."""
    return _items(op, "items") + _items(op, "others")


@converts("SequenceMul", arguments="items times")
def sequence_mul(op: Operator) -> Value:
    """The items several times over."""
    items, times = _items(op, "items"), op.integer("times")
    if len(items) * times > _MAX_ITEMS:
        op.refuse(f"repeats a tuple {times} times")
    return items * times


@converts("RealMakeTuple", "RealMakeList", "TupleToList", "ListToTuple", arguments="items")
def same_items(op: Operator) -> Value:
    """A tuple as a list, and the other way."""
    return _items(op, "items")


@converts("RealTupleGetItem", "RealListGetItem", arguments="items index")
def sequence_item(op: Operator) -> Value:
    """One item."""
    items, index = _items(op, "items"), op.integer("index")
    if not -len(items) <= index < len(items):
        op.refuse(f"takes item {index} of {len(items)}")
    return items[index]
