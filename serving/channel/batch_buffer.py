"""A span of shared memory cut into rows: where requests are written and answers are read.

The master's side. Rows are handed out from the front and never twice; ``holds`` counts who still
looks into the buffer (runs in flight, answers not yet encoded), and only at zero may the segments
be used again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from serving.channel import strings
from serving.channel.arena import Arena
from serving.channel.layout import Field, Layout, align
from serving.channel.segment import Segment
from serving.tensor import Array, Tensor, element_count


class BatchBuffer:
    """Owns an input and (where output sizes are known) an output segment for a while.

    The last ``spare`` rows are for filler, not for requests. A ``filled_elsewhere`` one has rows
    that the worker reads from files of clients.
    """

    def __init__(
        self,
        layout: Layout,
        arena: Arena,
        on_free: Callable[[BatchBuffer], None],
        spare: int = 0,
        *,
        filled_elsewhere: bool = False,
    ) -> None:
        self.layout = layout
        self._room = layout.rows - spare
        self._arena = arena
        self._on_free = on_free
        self.input: Segment = arena.take(
            max(1, layout.input_bytes), writable_elsewhere=filled_elsewhere, user=layout.id
        )
        self.output: Segment | None = None
        if layout.outputs is not None:
            try:
                self.output = arena.take(
                    max(1, layout.output_bytes), writable_elsewhere=True, user=layout.id
                )
            except Exception:
                arena.give(self.input)
                raise
        self._inputs = self.input.views(layout.id, layout.inputs, layout.rows)
        self._outputs: list[Array] | None = None
        self.filled = 0
        self._heap = layout.heap_offset
        self._has_strings = any(f.dtype.is_bytes for f in layout.inputs)
        self.holds = 0

    def fits(self, rows: int, text_bytes: int) -> bool:
        """Return whether so many more rows, with so much text, have room."""
        if self.filled + rows > self._room:
            return False
        return not self._has_strings or self._heap + text_bytes <= self.layout.input_bytes

    @property
    def room(self) -> int:
        """How many rows can still be handed out."""
        return self._room - self.filled

    def claim(self, rows: int) -> int:
        """Hand out the next rows; return the first."""
        first = self.filled
        self.filled += rows
        return first

    def write(self, first: int, rows: int, tensors: Sequence[Tensor]) -> None:
        """Copy a request's tensors (in signature order, engine shapes) into its rows.

        This is the one copy that a tensor makes on its way in. Numbers without elements are left
        to the worker.
        """
        for field, target, tensor in zip(self.layout.inputs, self._inputs, tensors, strict=True):
            array = tensor.array
            if array is None:
                if field.dtype.is_bytes:
                    self._write_strings(field, first, tensor)
            elif field.axis == 0:
                target[first : first + rows] = array
            elif field.axis is None:
                target[...] = array
            else:
                target[first : first + rows] = _rows_first(array, field.axis)

    def repeat(self, source: int, first: int, rows: int) -> None:
        """Fill ``rows`` rows from ``first`` on with copies of row ``source``."""
        for field in self.layout.inputs:
            if field.axis is not None:
                size = field.row_bytes
                at = field.offset + source * size
                row = self.input.bytes[at : at + size]
                for index in range(first, first + rows):
                    at = field.offset + index * size
                    self.input.bytes[at : at + size] = row

    def close_gap(self, first: int, rows: int) -> None:
        """Move every row behind ``first + rows`` down by ``rows``: those were withdrawn."""
        for field in self.layout.inputs:
            if field.axis is None:
                continue
            size = field.row_bytes
            start = field.offset + first * size
            end = field.offset + self.filled * size
            length = end - start - rows * size
            # A copy: source and target overlap.
            moved = self.input.bytes[start + rows * size : end].copy()
            self.input.bytes[start : start + length] = moved
        self.filled -= rows

    def outputs(self, first: int, rows: int) -> list[Array]:
        """Return views of the outputs' rows, rows first; only for known output sizes."""
        fields, views = self.layout.outputs, self._outputs
        assert fields is not None
        if views is None:
            assert self.output is not None
            views = self._outputs = self.output.views(self.layout.id, fields, self.layout.rows)
        end = first + rows
        return [
            whole if field.axis is None else whole[first:end]
            for field, whole in zip(fields, views, strict=True)
        ]

    def hold(self) -> None:
        """Somebody looks into the buffer."""
        self.holds += 1

    def release(self) -> None:
        """Somebody does not any more; the last one frees the segments."""
        self.holds -= 1
        if self.holds == 0:
            self._arena.give(self.input)
            if self.output is not None:
                self._arena.give(self.output)
            self._on_free(self)

    def _write_strings(self, field: Field, first: int, tensor: Tensor) -> None:
        items = tensor.items or ()
        if field.axis:
            items = _rows_first_items(tensor, field.axis)
        start = field.offset + (0 if field.axis is None else first * field.row_bytes)
        self._heap = strings.write(self.input.bytes, start, self._heap, items)


def text_bytes(tensors: Sequence[Tensor]) -> int:
    """Return how much heap the strings of a request take."""
    return align(sum(t.nbytes for t in tensors if t.dtype.is_bytes))


def _rows_first(array: Array, axis: int) -> Array:
    order = (axis, *(i for i in range(array.ndim) if i != axis))
    return array.transpose(order)


def _rows_first_items(tensor: Tensor, axis: int) -> list[bytes]:

    grid = np.empty(element_count(tensor.shape), dtype=object)
    grid[:] = tensor.items
    moved: list[bytes] = _rows_first(grid.reshape(tensor.shape), axis).reshape(-1).tolist()
    return moved
