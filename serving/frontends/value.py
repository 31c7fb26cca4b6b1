"""The elements of one tensor as a codec has read them, before they have a name."""

from __future__ import annotations

from dataclasses import dataclass

from serving.tensor import Array


@dataclass(frozen=True, slots=True)
class Value:
    """A C-contiguous array, or (BYTES) the elements in C order; ``shape`` is for both."""

    shape: tuple[int, ...]
    array: Array | None = None
    items: list[bytes] | None = None
