"""Convolutions over volumes in the order NCDHW, and their reverse.

Sources: ``mindspore.ops`` Conv3D, Conv3DTranspose (docstrings of 2.0 and 2.10) and
https://onnx.ai/onnx/operators/onnx__Conv.html, onnx__ConvTranspose.html.
"""

from __future__ import annotations

from typing import Any, Sequence

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.value import Tensor

_PAD_MODES = {0: "PAD", 1: "SAME", 2: "VALID"}


@converts("Conv3D", arguments="x w")
def conv3d(op: Operator) -> Tensor:
    """Conv. ``pad_list`` is (head, tail, top, bottom, left, right)."""
    dtype = op.output.dtype
    mode = op.choice("pad_mode", _PAD_MODES, "VALID")
    padding: dict[str, Any] = {"auto_pad": {"SAME": "SAME_UPPER"}.get(mode, "VALID")}
    if mode == "PAD":
        padding = {"pads": begins_and_ends(op, op.integers("pad_list|pad", (0,)))}
    return op.emit("Conv", op.tensor("x", dtype), op.tensor("w", dtype), **_windows(op), **padding)


@converts("Conv3DTranspose", arguments="x w")
def conv3d_transpose(op: Operator) -> Tensor:
    """ConvTranspose. MindSpore writes the output's size, from which follows what is cut off.

    ``same`` cuts the reach of the windows, ``(n - 1) * stride + dilation * (kernel - 1) + 1``, to
    ``n * stride``, the odd one at the end.
    """
    dtype = op.output.dtype
    x, w = op.tensor("x", dtype), op.tensor("w", dtype)
    windows = _windows(op)
    length, target = op.dims(x)[2:], (op.output.shape or ())[2:]
    if len(length) != 3 or len(target) != 3 or min(*length, *target) < 1:
        op.refuse("gives volumes whose size varies")
    sizes = zip(
        length, windows["strides"], windows["dilations"], windows["kernel_shape"], strict=True
    )
    reach = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in sizes]
    surplus = [max(r - t, 0) for r, t in zip(reach, target, strict=True)]
    mode = op.choice("pad_mode", _PAD_MODES, "VALID")
    pads = [0] * 6
    if mode == "SAME":
        pads = [*(n // 2 for n in surplus), *(n - n // 2 for n in surplus)]
    elif mode == "PAD":
        pads = begins_and_ends(op, op.integers("pad_list|pad", (0,)))
    added = [t - (r - b - e) for t, r, b, e in zip(target, reach, pads[:3], pads[3:], strict=True)]
    limits = zip(added, windows["strides"], windows["dilations"], strict=True)
    if any(not 0 <= n < max(s, d) for n, s, d in limits):
        op.refuse("gives an output of a size that does not follow from its windows")
    return op.emit("ConvTranspose", x, w, pads=pads, output_padding=added, **windows)


def begins_and_ends(op: Operator, pads: Sequence[int]) -> list[int]:
    """Return ONNX's pads of (head, tail, top, bottom, left, right), or of one for all."""
    if len(pads) == 1:
        pads = tuple(pads) * 6
    if len(pads) != 6 or min(pads) < 0:
        op.refuse("has a padding that is not (head, tail, top, bottom, left, right)")
    return [*pads[0::2], *pads[1::2]]


def triple(op: Operator, numbers: Sequence[int]) -> list[int]:
    """Return (depth, height, width) of a setting of one, three or five (N, C, D, H, W) numbers."""
    if len(numbers) == 5 and tuple(numbers[:2]) != (1, 1):
        op.refuse("works across volumes or channels")
    if len(numbers) not in (1, 3, 5) or min(numbers) < 1:
        op.refuse("has a size that is no depth, height and width")
    return [numbers[0]] * 3 if len(numbers) == 1 else list(numbers[-3:])


def require_ncdhw(op: Operator) -> None:
    """Refuse another order of axes than NCDHW."""
    layout = op.text("format|data_format", "NCDHW")
    if layout != "NCDHW":
        op.refuse(f"works on volumes in the order {layout}; only NCDHW is converted")


def _windows(op: Operator) -> dict[str, Any]:
    require_ncdhw(op)
    return {
        "kernel_shape": triple(op, op.integers("kernel_size")),
        "strides": triple(op, op.integers("strides|stride", (1,))),
        "dilations": triple(op, op.integers("dilations|dilation", (1,))),
        "group": op.integer("group|groups", 1),
    }
