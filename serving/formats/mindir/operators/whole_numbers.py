"""Divisors and multiples of whole numbers, and how many of their bits are set.

Sources: the docstrings of ``mindspore.ops`` Gcd, Lcm, PopulationCount (2.0 to 2.10) and
https://onnx.ai/onnx/operators/onnx__Loop.html.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.accumulation import Body
from serving.formats.mindir.operators.bits import require_bits, taken_apart
from serving.formats.mindir.operators.views import numbers
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import BOOL, INT64


def _greatest_divisor(op: Operator, x: Tensor, y: Tensor) -> Tensor:
    """Return the greatest common divisor of numbers not below 0, by Euclid's rounds."""
    single = TensorType(BOOL, ())
    turn, go_on = TensorType(INT64, ()), single
    zero = op.constant(np.array(0, np.int64))
    one = op.constant(np.array(1, np.int64))
    body = Body(op)
    entered = [body.named(t) for t in (turn, go_on, x.type, y.type)]
    _, _, larger, smaller = (t.name for t in entered)
    done = body("Equal", smaller, zero.name)
    # Where nothing is left the number stays; there a divisor of 1 stands in for 0.
    rest = body("Mod", larger, body("Where", done, one.name, smaller))
    left = Tensor(body("Where", done, zero.name, rest), y.type)
    new = Tensor(body("Where", done, larger, smaller), x.type)
    count = body("ReduceMax", body("Cast", left.name, to=INT64.onnx), keepdims=0)
    again = Tensor(body("Greater", count, zero.name), single)
    start = op.constant(np.array(True))
    found, _ = op.emit_several(
        "Loop", None, start, x, y, types=[x.type, y.type],
        body=body.graph(entered, [again, new, left]),
    )  # fmt: skip
    return found


def _spread(op: Operator) -> tuple[Formula, Tensor, Tensor]:
    """Return both operands without their signs, in INT64, in the shape of the output."""
    f = Formula(op, INT64)
    x, y = (f("Abs", f.tensor(n)) for n in ("x", "y"))
    both = TensorType(INT64, op.output.shape)
    none = f("Mul", f("Add", x, y), 0)
    return f, op.emit("Add", x, none, type=both), op.emit("Add", y, none, type=both)


@converts("Gcd", arguments="x y")
def greatest_common_divisor(op: Operator) -> Tensor:
    """The greatest number that divides both; of two zeros 0."""
    _, x, y = _spread(op)
    return op.cast(_greatest_divisor(op, x, y), op.output.dtype)


@converts("Lcm", arguments="x y")
def least_common_multiple(op: Operator) -> Tensor:
    """The least number that both divide; 0 if one of them is 0."""
    f, x, y = _spread(op)
    divisor = f("Max", _greatest_divisor(op, x, y), 1)
    return op.cast(f("Mul", f("Div", x, divisor), y), op.output.dtype)


@converts("PopulationCount", arguments="x")
def set_bits(op: Operator) -> Tensor:
    """How many bits are 1."""
    x = op.tensor("x")
    require_bits(op, x)
    bits = op.cast(taken_apart(op, x, x.dtype.itemsize * 8), INT64)
    found = op.emit("ReduceSum", bits, numbers(op, -1), type=TensorType(INT64, x.shape), keepdims=0)
    return op.cast(found, op.output.dtype)
