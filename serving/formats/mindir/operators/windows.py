"""The geometry of pooling windows, for signals, images and volumes alike.

MindSpore's files state the size of every output, so what a window reaches beyond its input is
computed from that, whatever the rounding (``ceil_mode``) was; ONNX is given plain paddings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor


@dataclass(frozen=True)
class Windows:
    """Windows along each axis behind the channels.

    ``begins`` and ``ends`` are the padding that was asked for, ``beyond`` what the last window of
    an axis reaches further than that.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    beyond: tuple[int, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """Return the attributes that ONNX's poolings share, without padding."""
        return {"kernel_shape": self.kernel, "strides": self.strides}

    @property
    def pads(self) -> list[int]:
        """Return all that windows reach beyond the input, as ONNX writes it."""
        return [*self.begins, *(e + b for e, b in zip(self.ends, self.beyond, strict=True))]


def fitted(
    op: Operator,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int] = (),
    pads: Sequence[int] | None = None,
    size: Sequence[int] | None = None,
) -> Windows:
    """Return the windows that give the output its stated size; pads are begins, then ends.

    Without pads they are those of mode ``same``: half before, the odd one behind. ``size`` is the
    output's if it is not the node's only one.
    """
    count = len(kernel)
    dims = op.dims(op.tensor("x"))
    stated = tuple(size if size is not None else op.output.shape or ())
    lengths, counts = dims[len(dims) - count :], stated[len(stated) - count :]
    if min((*lengths, *counts), default=0) < 1 or len(counts) != count:
        op.refuse("pools over lengths that vary")
    dilations = tuple(dilations) or (1,) * count
    sizes = zip(lengths, counts, kernel, strides, dilations, strict=True)
    needed = [(m - 1) * s + d * (k - 1) + 1 - n for n, m, k, s, d in sizes]
    if pads is None:
        around = [max(n, 0) for n in needed]
        pads = [*(n // 2 for n in around), *(n - n // 2 for n in around)]
    begins, ends = tuple(pads[:count]), tuple(pads[count:])
    beyond = tuple(max(n - b - e, 0) for n, b, e in zip(needed, begins, ends, strict=True))
    reached = zip(begins, ends, beyond, kernel, dilations, strict=True)
    if any(max(b, e + further) > d * (k - 1) for b, e, further, k, d in reached):
        op.refuse("has windows that hold nothing but padding")
    return Windows(tuple(kernel), tuple(strides), dilations, begins, ends, beyond)


def averaged(
    op: Operator, x: Tensor, windows: Windows, counts_padding: bool, divisor: int = 0
) -> Tensor:
    """Return the mean of each window, or its sum by a divisor.

    Padding that was asked for may count as zeros; what a window reaches beyond that never does,
    so then the zeros are made first.
    """
    settings: dict[str, Any] = dict(windows.settings)
    if divisor:
        whole = op.emit(
            "AveragePool", x, pads=windows.pads, count_include_pad=1, **settings,
            type=TensorType(x.dtype, _result(op, x, windows)),
        )  # fmt: skip
        factor = int(np.prod(windows.kernel)) / divisor
        return op.emit("Mul", whole, op.constant(np.array(factor, x.dtype.numpy)), type=whole.type)
    pads = windows.pads
    if counts_padding and any(windows.beyond):
        x = _zeros_around(op, x, windows)
        counts_padding, pads = False, [*(0 for _ in windows.begins), *windows.beyond]
    return op.emit(
        "AveragePool", x, pads=pads, count_include_pad=int(counts_padding), **settings,
        type=TensorType(x.dtype, _result(op, x, windows)),
    )  # fmt: skip


def _result(op: Operator, x: Tensor, windows: Windows) -> tuple[int, ...]:
    """Return the shape of a pooling's output, which may have a batch that the node's has not."""
    count = len(windows.kernel)
    return (*op.dims(x)[:2], *(op.output.shape or ())[-count:])


def _zeros_around(op: Operator, x: Tensor, windows: Windows) -> Tensor:
    front = (0, 0)
    pads = op.constant(np.array([*front, *windows.begins, *front, *windows.ends], np.int64))
    zero = op.constant(np.array(0, x.dtype.numpy))
    lengths = zip(op.dims(x)[2:], windows.begins, windows.ends, strict=True)
    shape = (*op.dims(x)[:2], *(n + b + e for n, b, e in lengths))
    return op.emit("Pad", x, pads, zero, type=TensorType(x.dtype, shape))


def each_axis(op: Operator, numbers: Sequence[int], count: int) -> tuple[int, ...]:
    """Return a setting that is one number for all axes, or one for each."""
    if len(numbers) not in (1, count) or min(numbers) < 0:
        op.refuse("has a setting that is not one number for each axis")
    return tuple(numbers) * count if len(numbers) == 1 else tuple(numbers)
