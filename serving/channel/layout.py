"""Where the rows of a batch lie in shared memory: pure arithmetic, the same in every process.

A batch buffer is an input segment (the worker maps it read-only) and an output segment. Each is
cut into fields, one a tensor, and each field into rows of equal size::

    input segment                                     output segment
    +--------------------+ 0                          +--------------------+ 0
    | image   row 0      |                            | probs   row 0      |
    |         row 1      |                            |         row 1      |
    |         ...        |                            |         ...        |
    |         row R-1    |                            |         row R-1    |
    +--------------------+ 64-byte boundary           +--------------------+
    | label   row 0 ...  |                            | label   row 0 ...  |
    +--------------------+                            +--------------------+
    | heap: bytes of the |
    | strings            |
    +--------------------+

A string element is an entry of two little-endian u64, offset and length of its bytes within the
segment. A field without a batch axis is *shared*: it is written once and holds for all rows; of
an unbatched servable every field is shared and the buffer has one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence, Tuple

from serving.tensor import BY_CODE, DType, element_count

ALIGNMENT = 64
STRING_ENTRY_BYTES = 16


def align(size: int) -> int:
    """Round up to the next 64-byte boundary."""
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


@dataclass(frozen=True)
class FieldShape:
    """One tensor before it has a place: its dtype, the shape of one row, its batch axis.

    ``axis`` is where the engine wants the rows; ``None`` makes the field shared.
    """

    dtype: DType
    row_shape: Tuple[int, ...]
    axis: Optional[int]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row (16 an element for strings, whose text is in the heap)."""
        size = STRING_ENTRY_BYTES if self.dtype.is_bytes else self.dtype.itemsize
        return element_count(self.row_shape) * size

    def engine_shape(self, rows: int) -> Tuple[int, ...]:
        """Return the shape that the engine sees for ``rows`` rows."""
        if self.axis is None:
            return self.row_shape
        return (*self.row_shape[: self.axis], rows, *self.row_shape[self.axis :])


@dataclass(frozen=True)
class Field(FieldShape):
    """One tensor in a segment, at ``offset``."""

    offset: int


@dataclass(frozen=True)
class Layout:
    """How a buffer of ``rows`` rows is cut. ``outputs`` is None where sizes are not known."""

    id: int
    rows: int
    inputs: Tuple[Field, ...]
    outputs: Optional[Tuple[Field, ...]]
    heap_offset: int
    input_bytes: int
    output_bytes: int

    def to_json(self) -> "dict[str, Any]":
        """Return a form that survives JSON and ``from_json``."""
        return {
            "id": self.id,
            "rows": self.rows,
            "inputs": [_field_json(f) for f in self.inputs],
            "outputs": None if self.outputs is None else [_field_json(f) for f in self.outputs],
            "heap_offset": self.heap_offset,
            "input_bytes": self.input_bytes,
            "output_bytes": self.output_bytes,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Layout":
        """Rebuild what ``to_json`` wrote."""
        outputs = data["outputs"]
        return Layout(
            data["id"],
            data["rows"],
            tuple(_field_from(f) for f in data["inputs"]),
            None if outputs is None else tuple(_field_from(f) for f in outputs),
            data["heap_offset"],
            data["input_bytes"],
            data["output_bytes"],
        )


def place(
    id: int,
    rows: int,
    inputs: Sequence[FieldShape],
    outputs: Optional[Sequence[FieldShape]],
    heap_bytes: int = 0,
) -> Layout:
    """Lay out a buffer of ``rows`` rows; ``heap_bytes`` are kept for the text of strings."""
    input_fields, heap_offset = _cut(rows, inputs)
    output_fields, output_bytes = (None, 0) if outputs is None else _cut(rows, outputs)
    return Layout(
        id, rows, input_fields, output_fields, heap_offset, heap_offset + heap_bytes, output_bytes
    )


def _cut(rows: int, shapes: Sequence[FieldShape]) -> Tuple[Tuple[Field, ...], int]:
    fields = []
    offset = 0
    for shape in shapes:
        fields.append(Field(shape.dtype, shape.row_shape, shape.axis, offset))
        count = 1 if shape.axis is None else rows
        offset = align(offset + count * shape.row_bytes)
    return tuple(fields), offset


def _field_json(field: Field) -> "list[Any]":
    return [field.dtype.code, list(field.row_shape), field.axis, field.offset]


def _field_from(data: Sequence[Any]) -> Field:
    return Field(BY_CODE[data[0]], tuple(data[1]), data[2], data[3])
