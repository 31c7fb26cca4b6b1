"""Matrix products and their biases.

Sources: ``mindspore.ops`` MatMul, BatchMatMul, BiasAdd (docstrings of 2.0 and 2.10) and
https://onnx.ai/onnx/operators/onnx__MatMul.html, onnx__Gemm.html.
"""

from __future__ import annotations

from serving.formats.mindir.operator import Operator
from serving.formats.mindir.registry import converts
from serving.formats.mindir.types import TensorType
from serving.formats.mindir.value import Tensor

FORMATS = {0: "NCHW", 1: "NHWC", 14: "NCDHW"}
"""How 2.1 and later number the order of axes (mindspore/core/mindapi/base/format.h)."""


@converts("MatMul", "BatchMatMul", arguments="x w transpose_a transpose_b")
def product(op: Operator) -> Tensor:
    """Gemm, which transposes as it goes, for floating matrices; else Transpose and MatMul."""
    dtype = op.output.dtype
    x, w = op.tensor("x", dtype), op.tensor("w", dtype)
    left = op.flag("transpose_a|transpose_x1|adj_x1", False)
    right = op.flag("transpose_b|transpose_x2|adj_x2", False)
    if len(op.dims(x)) == 2 and len(op.dims(w)) == 2 and dtype.name.startswith("FP"):
        if left or right:
            return op.emit("Gemm", x, w, transA=int(left), transB=int(right))
        return op.emit("MatMul", x, w)
    x = _swapped(op, x) if left else x
    w = _swapped(op, w) if right else w
    return op.emit("MatMul", x, w)


@converts("MatMulExt", "BatchMatMulExt", arguments="x w")
def plain_product(op: Operator) -> Tensor:
    """``mint.matmul``: numpy's matmul, as MatMul is."""
    dtype = op.output.dtype
    return op.emit("MatMul", op.tensor("x", dtype), op.tensor("w", dtype))


@converts("Dense", arguments="x w bias")
def dense(op: Operator) -> Tensor:
    """``x @ w.T + bias``, the bias optional; x of any rank."""
    dtype = op.output.dtype
    x, w = op.tensor("x", dtype), op.tensor("w", dtype)
    given = op.emit("MatMul", x, _swapped(op, w))
    return op.emit("Add", given, op.tensor("bias", dtype)) if op.has("bias") else given


@converts("BiasAdd", arguments="x bias format|data_format")
def bias_add(op: Operator) -> Tensor:
    """Add along axis 1 (NCHW, NCDHW), to which the bias is reshaped; or along the last."""
    dtype = op.output.dtype
    x, bias = op.tensor("x", dtype), op.tensor("bias", dtype)
    rank = len(op.dims(x))
    layout = op.choice("format|data_format", FORMATS, "NCHW")
    if layout != "NHWC" and rank > 2:
        bias = op.reshape(bias, (1, -1, *(1,) * (rank - 2)))
    return op.emit("Add", x, bias)


def _swapped(op: Operator, x: Tensor) -> Tensor:
    """Return a tensor with its last two axes exchanged."""
    dims = op.dims(x)
    if len(dims) < 2:
        op.refuse("transposes a tensor that is no matrix")
    order = [*range(len(dims) - 2), len(dims) - 1, len(dims) - 2]
    return op.emit(
        "Transpose", x, type=TensorType(x.dtype, tuple(dims[i] for i in order)), perm=order
    )
