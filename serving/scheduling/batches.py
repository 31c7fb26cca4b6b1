"""The batches of one line in which requests wait, and the buffers that they are made of."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator

from serving.channel.arena import Arena
from serving.channel.batch_buffer import BatchBuffer
from serving.errors import Overloaded
from serving.scheduling.batch import Batch, ShapeClass
from serving.scheduling.ticket import Ticket

_BUFFER_BYTES = 32 << 20
_HEAP_BYTES = 64 << 10


class Batches:
    """Iterates over those that wait, oldest first. Of each kind one is open for further requests.

    A batch has at most ``max_batch`` rows, in units of ``fixed`` where that is one. ``spare``
    rows behind those of a buffer are for filler. ``buffers`` counts those too that only answers
    hold; ``on_free`` is told of each that comes free.
    """

    def __init__(self, arena: Arena, batched: bool, max_batch: int, fixed: int | None) -> None:
        self._arena = arena
        self._batched = batched
        self._max_batch = max_batch
        self._fixed = fixed
        self._open: dict[tuple[object, ...], Batch] = {}
        self._pending: collections.deque[Batch] = collections.deque()
        self.slots = 1
        self.spare = 0
        self.buffers = 0
        self.on_free: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._pending)

    def joinable(self, shape: ShapeClass, unit: int) -> int:
        """Return how many callers may come as one ticket now: those that join the open batch.

        Each has ``unit`` rows.
        """
        batch = self._open.get((shape,))
        room = 0 if batch is None else batch.buffer.room
        return min(room, self._max_batch) // unit or self._max_batch // unit

    def head(self) -> Batch | None:
        """Return the first in which a request may run."""
        for batch in self._pending:
            if batch.tickets and batch.tickets[0].committed:
                return batch
        return None

    def place(self, ticket: Ticket, *, running: bool) -> bool:
        """Write a request into rows; False while there are no buffers.

        Raises Overloaded when there can be none: nothing of this line waits, and neither is it
        ``running``.
        """
        shape = ticket.shape
        key: tuple[object, ...] = (shape,)
        if ticket.admission.shared:
            key = (shape, *_shared_values(ticket))
        if ticket.request.elsewhere is not None:
            key = (*key, "elsewhere")
        batch = None if ticket.alone else self._open.get(key)
        if batch is not None:
            if batch.buffer.fits(ticket.rows, ticket.text):
                batch.put(ticket)
                return True
            self.close(batch)
        # Buffers that only answers hold do not count: one call may keep many answers until the
        # last of its requests is through, and that one may be the request that wants a buffer.
        if len(self._pending) >= self.slots + 2:
            return False
        buffer = self._new_buffer(shape, ticket, running)
        if buffer is None:
            return False
        batch = Batch(shape, key, buffer, elsewhere=ticket.request.elsewhere is not None)
        batch.put(ticket)
        self._pending.append(batch)
        large = ticket.rows > self._max_batch
        batch.open = not (ticket.alone or large) and self._batched
        if batch.open:
            self._open[key] = batch
        return True

    def close(self, batch: Batch) -> None:
        """Let no further requests join a batch."""
        if batch.open:
            del self._open[batch.key]
            batch.open = False

    def close_if_empty(self, batch: Batch) -> None:
        """A batch whose rows have all been sent takes no more: the next begins at row 0.

        So a run's rows nearly always begin at row 0 of a buffer, and the worker finds the
        binding for them in its cache.
        """
        if batch.tickets:
            return
        self.close(batch)
        self._pending.remove(batch)
        batch.buffer.release()

    def _new_buffer(self, shape: ShapeClass, ticket: Ticket, running: bool) -> BatchBuffer | None:
        heap = max(_HEAP_BYTES, ticket.text) if shape.has_strings else 0
        layout = shape.layout(self._rows_for(shape, ticket), heap)
        try:
            buffer = BatchBuffer(
                layout,
                self._arena,
                self._freed,
                self._filler,
                filled_elsewhere=ticket.request.elsewhere is not None,
            )
        except Overloaded:
            # One of ours will come free. Those that only answers hold do not count: the answers
            # may be of the very call whose last request waits here.
            if self._pending or running:
                return None
            raise
        self.buffers += 1
        return buffer

    def _rows_for(self, shape: ShapeClass, ticket: Ticket) -> int:
        if not self._batched:
            return 1
        rows = ticket.rows
        if not ticket.alone and rows <= self._max_batch:
            affordable = _BUFFER_BYTES // max(1, shape.row_bytes)
            rows = max(rows, min(self._max_batch * self.slots, affordable))
        unit = self._fixed or 1
        return -(-rows // unit) * unit + self._filler

    @property
    def _filler(self) -> int:
        return self.spare if self._batched and not self._fixed else 0

    def _freed(self, _buffer: BatchBuffer) -> None:
        self.buffers -= 1
        self.on_free()


def _shared_values(ticket: Ticket) -> Iterator[bytes]:
    for index in ticket.admission.shared:
        tensor = ticket.inputs[index]
        if tensor.array is not None:
            yield tensor.array.tobytes()
        else:
            yield repr(tensor.items).encode()
