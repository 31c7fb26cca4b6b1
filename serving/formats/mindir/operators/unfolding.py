"""The windows of an image as columns.

Sources: the docstrings of ``mindspore.ops`` Im2Col and ``mindspore.mint.nn.functional`` unfold
(2.0 to 2.10). Rows and then columns are gathered by their places, so that every element is
copied and none is computed with.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.operators.convolution import pair
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor
from serving.tensor import INT64

_TABLE = TensorType(INT64, (-1, -1))


def _places(op: Operator, length: int, kernel: int, stride: int, dilation: int) -> Tensor:
    """Return the place of each element of a window (down) of each window (across)."""
    windows = (length - dilation * (kernel - 1) - 1) // stride + 1
    if windows < 1:
        op.refuse("has windows larger than its image")

    def steps(count: int, step: int) -> Tensor:
        ends = (op.constant(np.array(n, np.int64)) for n in (0, count * step, step))
        return op.emit("Range", *ends, type=TensorType(INT64, (-1,)))

    inside = op.reshape(steps(kernel, dilation), (-1, 1))
    return op.emit("Add", inside, steps(windows, stride), type=_TABLE)


def _unfolded(
    op: Operator, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int],
    pads: Sequence[int],
) -> Tensor:  # fmt: skip
    """Return (N, C, elements of a window, windows), both counted row by row."""
    x = op.tensor("x")
    dims = op.dims(x)
    if len(dims) != 4 or min(dims[1:]) < 1:
        op.refuse("takes windows of what are no images of a fixed size")
    zero = op.constant(np.array(0, x.dtype.numpy))
    around = op.constant(np.array([0, 0, *pads, 0, 0, *pads], np.int64))
    x = op.emit("Pad", x, around, zero, type=TensorType(x.dtype, None))
    height, width = (n + 2 * p for n, p in zip(dims[2:], pads, strict=True))
    rows = _places(op, height, kernel[0], strides[0], dilations[0])
    columns = _places(op, width, kernel[1], strides[1], dilations[1])
    x = op.emit("Gather", x, rows, type=TensorType(x.dtype, None), axis=2)
    x = op.emit("Gather", x, columns, type=TensorType(x.dtype, None), axis=4)
    x = op.emit("Transpose", x, type=TensorType(x.dtype, None), perm=[0, 1, 2, 4, 3, 5])
    return op.reshape(x, (-1, dims[1], kernel[0] * kernel[1], _windows(op)))


def _windows(op: Operator) -> int:
    """Return how many windows the file says there are, which fixes the last axis."""
    shape = op.output.shape
    if shape is None or shape[-1] < 1:
        op.refuse("gives a number of windows that varies")
    return shape[-1]


@converts("Im2Col", arguments="x ksizes strides dilations pads")
def im2col(op: Operator) -> Tensor:
    """The windows of each channel, of shape (N, C, elements of a window, windows)."""
    if op.text("padding_mode", "CALCULATED") != "CALCULATED":
        op.refuse("computes its own padding")
    kernel = pair(op, op.integers("ksizes"))
    strides, dilations = (pair(op, op.integers(n, (1,))) for n in ("strides", "dilations"))
    return _unfolded(op, kernel, strides, dilations, _margins(op, "pads"))


@converts("Im2ColExt", arguments="x kernel_size dilation padding stride")
def unfold(op: Operator) -> Tensor:
    """The windows as columns, of shape (N, C * elements of a window, windows)."""
    kernel = pair(op, op.integers("kernel_size"))
    strides, dilations = (pair(op, op.integers(n, (1,))) for n in ("stride", "dilation"))
    found = _unfolded(op, kernel, strides, dilations, _margins(op, "padding"))
    _, channels, elements, windows = op.dims(found)
    return op.reshape(found, (-1, channels * elements, windows))


def _margins(op: Operator, name: str) -> list[int]:
    """Return the padding of (height, width), each on both sides."""
    given = op.integers(name, (0,))
    if len(given) not in (1, 2) or min(given) < 0:
        op.refuse("has a padding that is not (height, width)")
    return [given[0], given[-1]]
