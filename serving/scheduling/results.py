"""Outputs on their way back: views of shared memory, cut by request, in the engine's shapes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from serving.channel import strings
from serving.channel.arena import Arena
from serving.channel.layout import FieldShape
from serving.channel.messages import Written
from serving.channel.segment import Segment, view
from serving.errors import ExecutionFailed, InternalError
from serving.request import InferResponse
from serving.scheduling.ticket import Ticket
from serving.tensor import BY_CODE, Array, BatchAxes, Signature, Tensor, TensorSpec, element_count


class Results:
    """What one run packed into a segment; freed when the last of its requests is encoded."""

    def __init__(
        self,
        written: Sequence[Written],
        segment: Segment | None,
        arena: Arena,
        signature: Signature,
    ) -> None:
        self._segment = segment
        self._arena = arena
        self._holds = 1
        self.tensors = tuple(
            _tensor(spec, w, segment) for spec, w in zip(signature.outputs, written, strict=True)
        )

    def hold(self) -> None:
        """One more request looks into it."""
        self._holds += 1

    def release(self) -> None:
        """One fewer; the last gives the segment back."""
        self._holds -= 1
        if self._holds == 0 and self._segment is not None:
            self._arena.give(self._segment)
            self._segment = None

    def row_fields(self, rows: int, axes: BatchAxes) -> tuple[FieldShape, ...] | None:
        """Return the row shapes of all outputs, or None where they cannot be bound in advance."""
        if any(t.dtype.is_bytes for t in self.tensors):
            return None
        if not axes.batched:
            return tuple(FieldShape(t.dtype, t.shape, None) for t in self.tensors)
        if not self.has_rows(rows):
            return None
        return tuple(
            FieldShape(t.dtype, t.shape[1:], axis)
            for t, axis in zip(self.tensors, axes.outputs, strict=True)
        )

    def has_rows(self, rows: int) -> bool:
        """Return whether every output has one entry a row, as the batch axis promises."""
        return all(t.shape[:1] == (rows,) for t in self.tensors)


class Part(NamedTuple):
    """Rows ``start .. start+rows`` of a run's packed results belong to a request at ``offset``."""

    offset: int
    rows: int
    results: Results
    start: int


def respond(ticket: Ticket, signature: Signature, axes: BatchAxes) -> InferResponse:
    """Build the answer of a ticket whose rows have all been run."""
    batch = ticket.batch
    assert batch is not None
    packed = bool(ticket.parts)
    if packed:
        if sum(part.rows for part in ticket.parts) != ticket.rows:
            # Other parts' outputs went to their rows as foreseen, these did not fit there.
            raise _uneven(signature.outputs[0].name)
        tensors = _joined(ticket, axes)
    else:
        arrays = batch.buffer.outputs(ticket.first, ticket.rows)
        tensors = [
            Tensor(spec.name, spec.dtype, array.shape, array)
            for spec, array in zip(signature.outputs, arrays, strict=True)
        ]
    if axes.batched and any(axes.outputs):
        tensors = [_engine_axes(t, axis) for t, axis in zip(tensors, axes.outputs, strict=True)]
    wanted = ticket.admission.outputs
    chosen = tuple(tensors if wanted is None else [tensors[i] for i in wanted])
    request = ticket.request
    description = ticket.line.description
    release = functools.partial(let_go, ticket)
    response = InferResponse(description.servable, description.version, request.id, chosen, release)
    if ticket.stored and not packed:
        response.stored = ticket.stored
    return response


def let_go(ticket: Ticket) -> None:
    """Drop the holds of a ticket on its rows and on packed results."""
    batch, parts = ticket.batch, ticket.parts
    ticket.batch, ticket.parts = None, []
    for part in parts:
        part.results.release()
    if batch is not None:
        batch.buffer.release()


def _joined(ticket: Ticket, axes: BatchAxes) -> list[Tensor]:
    parts = sorted(ticket.parts, key=lambda part: part.offset)
    if len(parts) == 1:
        part = parts[0]
        end = part.start + part.rows
        if not axes.batched or any(t.shape[:1] < (end,) for t in part.results.tensors):
            return list(part.results.tensors)
        return [_rows_of(t, part.start, part.rows) for t in part.results.tensors]
    pieces = [[_rows_of(t, p.start, p.rows) for t in p.results.tensors] for p in parts]
    return [_concatenated(column) for column in zip(*pieces, strict=True)]


def _rows_of(tensor: Tensor, start: int, rows: int) -> Tensor:
    shape = (rows, *tensor.shape[1:])
    if tensor.items is not None:
        step = element_count(tensor.shape[1:])
        items = tensor.items[start * step : (start + rows) * step]
        return Tensor(tensor.name, tensor.dtype, shape, items=items)
    assert tensor.array is not None
    return Tensor(tensor.name, tensor.dtype, shape, tensor.array[start : start + rows])


def _concatenated(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    if any(t.shape[1:] != first.shape[1:] for t in tensors):
        raise _uneven(first.name)
    shape = (sum(t.shape[0] for t in tensors), *first.shape[1:])
    if first.items is not None:
        items = [item for t in tensors for item in t.items or ()]
        return Tensor(first.name, first.dtype, shape, items=items)
    return Tensor(first.name, first.dtype, shape, np.concatenate([_array(t) for t in tensors]))


def _uneven(name: str) -> ExecutionFailed:
    return ExecutionFailed(
        f"output {name!r} has another shape for some of the rows, so that the answer "
        "to so many rows cannot be one tensor",
        fix="send fewer rows at once, at most max_batch_size",
    )


def _engine_axes(tensor: Tensor, axis: int | None) -> Tensor:
    """Put the rows back onto the axis where the engine has them."""
    if not axis:
        return tensor
    grid = _array(tensor)
    if grid.ndim <= axis:
        return tensor
    moved = np.moveaxis(grid, 0, axis)
    if tensor.items is not None:
        return Tensor(tensor.name, tensor.dtype, moved.shape, items=moved.reshape(-1).tolist())
    return Tensor(tensor.name, tensor.dtype, moved.shape, np.ascontiguousarray(moved))


def _array(tensor: Tensor) -> Array:
    if tensor.array is not None:
        return tensor.array
    grid = np.empty(element_count(tensor.shape), dtype=object)
    grid[:] = tensor.items
    return grid.reshape(tensor.shape)


def _tensor(spec: TensorSpec, written: Written, segment: Segment | None) -> Tensor:
    dtype = BY_CODE.get(written.dtype)
    if dtype is not spec.dtype:
        raise InternalError("a worker answered with another data type than the model's")
    count = element_count(written.shape)
    if dtype.is_bytes:
        items = strings.read(segment.bytes, written.offset, count) if segment and count else []
        return Tensor(spec.name, dtype, written.shape, items=items)
    if written.nbytes != count * dtype.itemsize:
        raise InternalError("a worker's answer does not have the size of its shape")
    if segment is None or count == 0:
        return Tensor(spec.name, dtype, written.shape, np.empty(written.shape, dtype.numpy))
    array = view(segment, dtype, written.offset, written.shape)
    return Tensor(spec.name, dtype, written.shape, array)
