"""Bits of whole numbers, which ONNX has operators for only from opset 18 on.

Sources: the docstrings of ``mindspore.ops`` BitwiseAnd, Invert, LeftShift, ... (2.0 to 2.10).
Two's complement is taken apart and put together by division and sums in INT64, which is exact.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.elementary import is_whole
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import BOOL, INT64, UINT64

_LOGICAL = ("And", "Or", "Xor")


@converts(
    *[f"Bitwise{name}{kind}" for name in _LOGICAL for kind in ("", "Tensor", "Scalar")],
    arguments="x y",
)
def bitwise(op: Operator) -> Tensor:
    """And, Or or Xor of each bit: of truth values directly, of whole numbers bit by bit."""
    name = op.node.operator.removeprefix("Bitwise").removesuffix("Tensor").removesuffix("Scalar")
    dtype = op.output.dtype
    if dtype is BOOL:
        return op.emit(name, op.tensor("x", BOOL), op.tensor("y", BOOL))
    require_bits(op, op.output)
    bits = dtype.itemsize * 8
    one, other = (taken_apart(op, op.tensor(n, dtype), bits) for n in ("x", "y"))
    f = Formula(op, BOOL)
    chosen = op.cast(f(name, one, other), INT64)
    signed = dtype.name.startswith("INT")
    low = _put_together(op, chosen, 0, min(bits, 32), signed and bits <= 32)
    if bits == 64:
        high = _put_together(op, chosen, 32, 64, signed)
        f = Formula(op, INT64)
        low = f("Add", f("Mul", high, 2**32), low)
    return op.cast(low, dtype)


def _put_together(op: Operator, bits: Tensor, first: int, last: int, signed: bool) -> Tensor:
    """Return the number that some bits make; the last one counts against it if it is the sign.

    At most 32 at once: ONNX Runtime sums INT64 as doubles.
    """
    worth = [2**i for i in range(last - first)]
    if signed:
        worth[-1] = -worth[-1]
    places = [op.constant(np.array([n], np.int64)) for n in (first, last, -1)]
    part = op.emit("Slice", bits, *places, type=TensorType(INT64, None))
    parts = Formula(op, INT64)("Mul", part, op.constant(np.array(worth, np.int64)))
    stated = TensorType(INT64, op.output.shape)
    return op.emit("ReduceSum", parts, places[2], type=stated, keepdims=0)


def require_bits(op: Operator, x: TensorType | Tensor) -> None:
    """Refuse numbers whose bits cannot be taken apart."""
    if not is_whole(x):
        op.refuse("takes the bits of numbers that are not whole")
    if x.dtype is UINT64:
        op.refuse("takes the bits of UINT64, which INT64 does not hold")


def taken_apart(op: Operator, x: Tensor, bits: int) -> Tensor:
    """Return whether each bit is set, along a new last axis, the lowest first."""
    f = Formula(op, INT64)
    wide = op.cast(x, INT64)
    shape = None if wide.shape is None else (*wide.shape, 1)
    column = op.emit(
        "Unsqueeze", wide, op.constant(np.array([-1], np.int64)), type=TensorType(INT64, shape)
    )
    lower = min(bits, 63)
    worth = op.constant(np.array([2**i for i in range(lower)], np.int64))
    # Rounded down, as a shift does: what is below goes first, then the division is exact.
    shifted = f("Div", f("Sub", column, f("Mod", column, worth)), worth)
    found = f("Equal", f("Mod", shifted, 2), 1)
    if bits > lower:
        sign = f("Less", column, 0)
        joined = None if shape is None else (*shape[:-1], bits)
        found = op.emit("Concat", found, sign, type=TensorType(BOOL, joined), axis=-1)
    return found


@converts("Invert", "BitwiseNot", arguments="x")
def invert(op: Operator) -> Tensor:
    """Every bit the other way: ``-x - 1``, and what is left of the greatest if unsigned."""
    dtype = op.output.dtype
    x = op.tensor("x", dtype)
    if dtype is BOOL:
        return op.emit("Not", x)
    require_bits(op, op.output)
    f = Formula(op, INT64)
    least = -1 if dtype.name.startswith("INT") else 2 ** (dtype.itemsize * 8) - 1
    return op.cast(f("Sub", least, op.cast(x, INT64)), dtype)


@converts("LeftShift", "RightShift", arguments="x y")
def shift(op: Operator) -> Tensor:
    """``x * 2**y``, or ``x / 2**y`` rounded down; y is from 0 to the bits of the type less 1."""
    require_bits(op, op.output)
    f = Formula(op, INT64)
    x, y = f.tensor("x"), f.tensor("y")
    # INT64 does not hold 2**63: the last place is a step of its own.
    steps = f("Min", y, 62)
    for places in (steps, f("Sub", y, steps)):
        worth = f("Pow", 2, places)
        if op.node.operator == "LeftShift":
            x = f("Mul", x, worth)
        else:
            x = f("Div", f("Sub", x, f("Mod", x, worth)), worth)
    return op.cast(x, op.output.dtype)
