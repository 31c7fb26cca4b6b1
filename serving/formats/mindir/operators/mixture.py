"""Two tensors mixed.

Source: ``mindspore.ops.Lerp`` (docstrings of 2.0 and 2.10).
"""

from __future__ import annotations

from serving.formats.mindir.formula import Formula
from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.value import Tensor


@converts("Lerp", "LerpScalar", arguments="start end weight")
def lerp(op: Operator) -> Tensor:
    """``start + weight * (end - start)``."""
    calculate = Formula(op, op.output.dtype)
    dtype = op.output.dtype
    start, end, weight = (op.tensor(n, dtype) for n in ("start", "end", "weight"))
    return calculate("Add", start, calculate("Mul", weight, calculate("Sub", end, start)))
