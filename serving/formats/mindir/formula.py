"""Writes what ONNX has no operator for as a formula of those that it has.

``f("Mul", x, f("Tanh", x))`` emits a Tanh and a Mul; plain numbers among the arguments become
constants of the element type that the formula is computed in.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import BOOL, DType

_TRUTHS = {
    "And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not",
    "Or",
}  # fmt: skip


class Formula:
    """Emits elementwise ONNX nodes in one element type; lengths follow from broadcasting."""

    def __init__(self, op: Operator, dtype: DType | None = None) -> None:
        self._op = op
        self.dtype = dtype or op.output.dtype

    def tensor(self, name: str) -> Tensor:
        """Return an argument of the operator in the type of the formula."""
        return self._op.tensor(name, self.dtype)

    def number(self, value: float) -> Tensor:
        """Return a constant in the type of the formula."""
        return self._op.constant(np.array(value, self.dtype.numpy))

    def __call__(self, operator: str, *arguments: Tensor | float, **attributes: Any) -> Tensor:
        """Emit an elementwise node; raises ``LoadError`` if the operands do not broadcast."""
        given = [a if isinstance(a, Tensor) else self.number(a) for a in arguments]
        shape = given[0].shape
        for other in given[1:]:
            shape = self._broadcast(shape, other.shape)
        dtype = BOOL if operator in _TRUTHS else given[-1].dtype
        return self._op.emit(operator, *given, type=TensorType(dtype, shape), **attributes)

    def _broadcast(
        self, one: tuple[int, ...] | None, other: tuple[int, ...] | None
    ) -> tuple[int, ...] | None:
        """Return the common shape; an axis that varies stays so beside a length of 1."""
        if one is None or other is None:
            return None
        rank = max(len(one), len(other))
        pairs = zip((1,) * (rank - len(one)) + one, (1,) * (rank - len(other)) + other, strict=True)
        shape = []
        for a, b in pairs:
            if min(a, b) > 1 and a != b:
                self._op.refuse(f"combines the lengths {a} and {b}")
            shape.append(b if a == 1 else a if b in (1, -1) else b)
        return tuple(shape)
