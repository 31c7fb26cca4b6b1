"""The greatest, and classes as vectors.

Sources: ``mindspore.ops`` TopK, OneHot (docstrings of 2.0 and 2.10) and
https://onnx.ai/onnx/operators/onnx__TopK.html.
"""

from __future__ import annotations

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor, Value
from serving.tensor import BOOL, INT64


@converts("TopK", arguments="x k sorted")
def top_k(op: Operator) -> Value:
    """The k greatest of the last axis and their places, the greatest first.

    Of equals ONNX takes the first; MindSpore does not say, and does the same where it was seen.
    """
    k = op.reshape(op.tensor("k", INT64), (1,))
    values, places = op.outputs
    found, at = op.emit_several(
        "TopK", op.tensor("x"), k, types=[values, TensorType(INT64, places.shape)],
        axis=-1, largest=1, sorted=1,
    )  # fmt: skip
    return found, op.cast(at, places.dtype)


@converts("OneHot", arguments="indices depth on_value off_value axis")
def one_hot(op: Operator) -> Tensor:
    """A new axis of length ``depth`` that holds ``on_value`` at the index, else ``off_value``.

    An index below 0 has no place here, while ONNX's OneHot would count it from the end: so each
    place is compared with the index instead.
    """
    indices = op.tensor("indices", INT64)
    rank = len(op.dims(indices)) + 1
    axis = op.axis(op.integer("axis", -1), rank)
    depth = op.reshape(op.tensor("depth", INT64), ())
    zero, one = op.constant(np.array(0)), op.constant(np.array(1))
    places = op.emit("Range", zero, depth, one, type=TensorType(INT64, (-1,)))
    places = op.reshape(places, (-1, *(1,) * (rank - 1 - axis)))
    spread = op.emit(
        "Unsqueeze", indices, op.constant(np.array([axis])),
        type=TensorType(INT64, op.output.shape),
    )  # fmt: skip
    chosen = op.emit("Equal", spread, places, type=TensorType(BOOL, op.output.shape))
    dtype = op.output.dtype
    return op.emit("Where", chosen, op.tensor("on_value", dtype), op.tensor("off_value", dtype))
