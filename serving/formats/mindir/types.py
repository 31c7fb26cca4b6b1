"""What MindIR says a value is: element types under MindSpore's two numberings, shapes, tuples."""

from __future__ import annotations

from dataclasses import dataclass

from serving.tensor import (
    BF16,
    BOOL,
    FP16,
    FP32,
    FP64,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    DType,
)

MAX_RANK = 32
"""More axes than this are taken for damage (MindSpore and numpy stop at 8 and 64)."""

BY_DATA_TYPE: dict[int, DType] = {
    1: FP32, 2: UINT8, 3: INT8, 4: UINT16, 5: INT16, 6: INT32, 7: INT64, 9: BOOL, 10: FP16,
    11: FP64, 12: UINT32, 13: UINT64, 16: BF16, 17: FP64,
}  # fmt: skip
"""TensorProto.DataType of mind_ir.proto; ONNX's numbers, but 17 is FLOAT64 here."""

BY_TYPE_ID: dict[int, DType] = {
    30: BOOL, 32: INT8, 33: INT16, 34: INT32, 35: INT64, 37: UINT8, 38: UINT16, 39: UINT32,
    40: UINT64, 42: FP16, 43: FP32, 44: FP64, 45: BF16,
}  # fmt: skip
"""TypeId of mindspore/core (ir/dtype/type_id.h), as 2.10 writes the type of a Cast."""


@dataclass(frozen=True)
class TensorType:
    """A tensor; an axis of -1 varies, a shape of ``None`` has an unknown rank."""

    dtype: DType
    shape: tuple[int, ...] | None

    def __str__(self) -> str:
        shape = (
            "..." if self.shape is None else ",".join("?" if n < 0 else str(n) for n in self.shape)
        )
        return f"{self.dtype.name}[{shape}]"


@dataclass(frozen=True)
class ScalarType:
    """A number outside any tensor, such as one length of a shape."""

    dtype: DType


@dataclass(frozen=True)
class TupleType:
    """Several values in a row."""

    items: tuple[Type, ...]


@dataclass(frozen=True)
class OtherType:
    """What is never computed with: monads, closures, ``None``; and what the importer lacks."""

    kind: str


Type = TensorType | ScalarType | TupleType | OtherType
MONAD = OtherType("monad")


def run_dtype(dtype: DType) -> DType:
    """Return the type that values of ``dtype`` are computed in.

    ONNX Runtime has no bfloat16 kernels for CPUs, so bfloat16 runs as float32, which holds every
    bfloat16 exactly.
    """
    return FP32 if dtype is BF16 else dtype
