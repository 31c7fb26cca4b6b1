"""The elements of one tensor as a codec has read them, before they have a name."""

from __future__ import annotations

from dataclasses import dataclass

from serving.tensor import Array, DType


@dataclass(frozen=True, slots=True)
class Value:
    """A C-contiguous array, or (BYTES) the elements in C order; ``shape`` is for both.

    ``dtype`` is None where the signature says it; a value for an input of any type has its own.
    """

    shape: tuple[int, ...]
    array: Array | None = None
    items: list[bytes] | None = None
    dtype: DType | None = None
