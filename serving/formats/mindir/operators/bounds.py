"""Numbers kept within bounds, or replaced beyond them.

Sources: the docstrings of ``mindspore.mint`` clamp and ``mint.nn.functional`` hardtanh, threshold,
hardshrink, softshrink (2.3 to 2.10), and https://onnx.ai/onnx/operators/onnx__Shrink.html.
"""

from __future__ import annotations

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.elementary import is_whole
from serving.formats.mindir.registry import converts
from serving.formats.mindir.value import Tensor
from serving.tensor import INT64


@converts("ClampScalar", "ClampTensor", arguments="x min max")
def clamp(op: Operator) -> Tensor:
    """Not below ``min`` and then not above ``max``, either of which may be missing."""
    # ONNX Runtime compares small whole numbers only once they are INT64.
    f = Formula(op, INT64 if is_whole(op.output) else None)
    x = f.tensor("x")
    if op.has("min"):
        x = f("Max", x, f.tensor("min"))
    if op.has("max"):
        x = f("Min", x, f.tensor("max"))
    return op.emit("Identity", op.cast(x, op.output.dtype))


@converts("Hardtanh", arguments="x min_val max_val")
def hardtanh(op: Operator) -> Tensor:
    """Between ``min_val`` and ``max_val``."""
    f = Formula(op, INT64 if is_whole(op.output) else None)
    low, high = op.number("min_val", -1), op.number("max_val", 1)
    return op.cast(f("Min", f("Max", f.tensor("x"), low), high), op.output.dtype)


@converts("Threshold", arguments="x threshold value")
def threshold(op: Operator) -> Tensor:
    """``x`` above the threshold, else the value."""
    f = Formula(op)
    x = f.tensor("x")
    return f("Where", f("LessOrEqual", x, op.number("threshold")), f.number(op.number("value")), x)


@converts("HShrink", arguments="x lambd")
def hard_shrink(op: Operator) -> Tensor:
    """0 where x is within ``lambd`` of 0, else x."""
    f = Formula(op)
    x = f.tensor("x")
    return f("Where", f("LessOrEqual", f("Abs", x), op.number("lambd", 0.5)), f.number(0), x)


@converts("SoftShrink", arguments="x lambd")
def soft_shrink(op: Operator) -> Tensor:
    """Nearer to 0 by ``lambd``, and 0 where x is within it: Shrink."""
    lambd = op.number("lambd", 0.5)
    return op.emit("Shrink", op.tensor("x"), lambd=lambd, bias=lambd)
