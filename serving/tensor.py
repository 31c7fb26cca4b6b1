"""Data types, shapes and signatures: the words in which models and requests are described.

Used in every process; Python 3.9 syntax, numpy only.

Dtype names are those of the Open Inference Protocol (V2). ``BF16`` has no numpy type: its
elements are carried as raw 16-bit patterns in ``uint16`` arrays. ``BYTES`` (strings) has no
fixed size: its elements are ``bytes`` in a flat Python list. Two types are known between stages
only: ``TEXT`` is BYTES that are UTF-8 text for certain, and ``ANY`` stands where a value may be of
any type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Dim = Union[int, str]
"""A size, or the name of a size that varies; ``""`` is a varying size without a name."""


@dataclass(frozen=True)
class DType:
    """One element type: V2 name, numpy type, bytes per element, ONNX number, wire number."""

    name: str
    numpy: Optional["np.dtype[Any]"]
    itemsize: int
    onnx: int
    code: int

    @property
    def is_bytes(self) -> bool:
        """True for strings, which live in lists instead of arrays."""
        return self.numpy is None

    def __repr__(self) -> str:
        return self.name


def _dtype(name: str, numpy: Optional[str], onnx: int, code: int) -> DType:
    kind = None if numpy is None else np.dtype(numpy)
    return DType(name, kind, 0 if kind is None else kind.itemsize, onnx, code)


BOOL = _dtype("BOOL", "bool", 9, 1)
UINT8 = _dtype("UINT8", "<u1", 2, 2)
UINT16 = _dtype("UINT16", "<u2", 4, 3)
UINT32 = _dtype("UINT32", "<u4", 12, 4)
UINT64 = _dtype("UINT64", "<u8", 13, 5)
INT8 = _dtype("INT8", "<i1", 3, 6)
INT16 = _dtype("INT16", "<i2", 5, 7)
INT32 = _dtype("INT32", "<i4", 6, 8)
INT64 = _dtype("INT64", "<i8", 7, 9)
FP16 = _dtype("FP16", "<f2", 10, 10)
FP32 = _dtype("FP32", "<f4", 1, 11)
FP64 = _dtype("FP64", "<f8", 11, 12)
BYTES = _dtype("BYTES", None, 8, 13)
BF16 = _dtype("BF16", "<u2", 16, 14)
TEXT = _dtype("TEXT", None, 8, 15)
ANY = _dtype("ANY", None, -1, 0)

DTYPES: Tuple[DType, ...] = (
    BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BYTES, BF16,
)  # fmt: skip
BY_NAME: Mapping[str, DType] = {d.name: d for d in DTYPES}
BY_CODE: Mapping[int, DType] = {d.code: d for d in (*DTYPES, TEXT)}
BY_ONNX: Mapping[int, DType] = {d.onnx: d for d in DTYPES}
_SPECS: Mapping[str, DType] = {**BY_NAME, TEXT.name: TEXT, ANY.name: ANY}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output as the model declares it.

    ``shape`` is the engine's shape, batch axis included; ``None`` is an unknown rank.
    ``json`` marks a sequence or map output: it is served as BYTES, one JSON document a row.
    """

    name: str
    dtype: DType
    shape: Optional[Tuple[Dim, ...]]
    json: bool = False

    def text(self) -> str:
        """Return ``FP32[batch,3,224,224]`` for people."""
        if self.json:
            return f"{self.dtype.name} (JSON)"
        if self.shape is None:
            return f"{self.dtype.name}[...]"
        return f"{self.dtype.name}{shape_text(self.shape)}"

    def to_json(self) -> "dict[str, Any]":
        """Return a form that survives JSON and ``from_json``."""
        shape = None if self.shape is None else list(self.shape)
        return {"name": self.name, "dtype": self.dtype.name, "shape": shape, "json": self.json}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "TensorSpec":
        """Rebuild what ``to_json`` wrote."""
        shape = None if data["shape"] is None else tuple(data["shape"])
        return TensorSpec(data["name"], _SPECS[data["dtype"]], shape, bool(data["json"]))


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model, in the model's own order."""

    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]

    def to_json(self) -> "dict[str, Any]":
        """Return a form that survives JSON and ``from_json``."""
        return {
            "inputs": [s.to_json() for s in self.inputs],
            "outputs": [s.to_json() for s in self.outputs],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Signature":
        """Rebuild what ``to_json`` wrote."""
        return Signature(
            tuple(TensorSpec.from_json(s) for s in data["inputs"]),
            tuple(TensorSpec.from_json(s) for s in data["outputs"]),
        )


@dataclass(frozen=True)
class BatchAxes:
    """Which axis of each tensor counts the rows of a batch, or why there is none.

    ``inputs`` and ``outputs`` run parallel to the signature; ``None`` for a tensor that has no
    batch axis and is shared by all rows (a scalar setting). ``reason`` says in words what
    proved the axis, or which step of the proof failed. ``exact``: rows must come out together as
    they do alone, to the last bit.
    """

    batched: bool
    reason: str
    inputs: Tuple[Optional[int], ...] = ()
    outputs: Tuple[Optional[int], ...] = ()
    exact: bool = False

    def to_json(self) -> "dict[str, Any]":
        """Return a form that survives JSON and ``from_json``."""
        return {
            "batched": self.batched,
            "reason": self.reason,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "exact": self.exact,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "BatchAxes":
        """Rebuild what ``to_json`` wrote."""
        return BatchAxes(
            bool(data["batched"]),
            data["reason"],
            tuple(data["inputs"]),
            tuple(data["outputs"]),
            bool(data.get("exact", False)),
        )

    @staticmethod
    def refused(reason: str) -> "BatchAxes":
        """Return the verdict that requests must run alone, and why."""
        return BatchAxes(False, reason)


def fixed_batch(signature: Signature, axes: BatchAxes) -> Optional[int]:
    """Return the batch size that the model is frozen to, or None where it may vary."""
    if not axes.batched:
        return None
    for spec, axis in zip(signature.inputs, axes.inputs):
        if axis is not None and spec.shape is not None:
            dim = spec.shape[axis]
            if isinstance(dim, int) and dim >= 0:
                return dim
    return None


class Tensor:
    """A named value in a request or a response.

    ``array`` is C-contiguous and holds the elements (``uint16`` patterns for BF16); for BYTES
    it is ``None`` and ``items`` holds the elements in C order.
    """

    __slots__ = ("array", "dtype", "items", "name", "shape")

    def __init__(
        self,
        name: str,
        dtype: DType,
        shape: Tuple[int, ...],
        array: Optional[Array] = None,
        items: Optional[Sequence[bytes]] = None,
    ) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.array = array
        self.items = items

    @staticmethod
    def of(name: str, array: Array, dtype: Optional[DType] = None) -> "Tensor":
        """Wrap a numpy array; its dtype decides unless ``dtype`` says BF16."""
        if dtype is None:
            dtype = _BY_NUMPY[array.dtype.newbyteorder("<").str]
        return Tensor(name, dtype, array.shape, np.ascontiguousarray(array).reshape(array.shape))

    @property
    def nbytes(self) -> int:
        """Bytes of the elements (for strings, the sum of their lengths)."""
        if self.array is not None:
            return int(self.array.nbytes)
        return sum(map(len, self.items or ()))

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.dtype.name}{shape_text(self.shape)})"


_BY_NUMPY = {
    d.numpy.newbyteorder("<").str: d for d in DTYPES if d.numpy is not None and d is not BF16
}


def element_count(shape: Sequence[int]) -> int:
    """Return the number of elements; exact, however large (a Python integer)."""
    count = 1
    for dim in shape:
        count *= dim
    return count


def shape_text(shape: Sequence[Dim]) -> str:
    """Return ``[2,3,-1]``; unnamed varying sizes are shown as -1, named ones by their name."""
    return "[" + ",".join(str(d) if d != "" else "-1" for d in shape) + "]"


def bf16_to_float32(bits: Array) -> Array:
    """Widen raw bfloat16 patterns (``uint16``) to float32, exactly."""
    # Of a 0-d array numpy makes a scalar, which is no array.
    return np.asarray(bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def float32_to_bf16(values: Array) -> Array:
    """Round float32 to the nearest bfloat16 (ties to even) and return raw patterns."""
    wide = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    nan = np.isnan(values)
    rounded = (wide + np.uint32(0x7FFF) + ((wide >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(nan, np.uint16(0x7FC0), rounded.astype(np.uint16))
