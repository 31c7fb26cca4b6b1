"""A batch buffer and the tickets whose rows wait in it."""

from __future__ import annotations

import collections
import itertools

from serving.channel.batch_buffer import BatchBuffer
from serving.channel.layout import FieldShape, Layout, place
from serving.scheduling.cost import Cost
from serving.scheduling.ticket import Ticket

_layout_ids = itertools.count(1)


class ShapeClass:
    """Requests of one look: their rows have these shapes, and these layouts hold them.

    ``outputs`` is learned from the first run: until then, and for ever where sizes depend on
    the data, it is None and outputs are packed by the worker.
    """

    def __init__(self, fields: tuple[FieldShape, ...]) -> None:
        self.fields = fields
        self.outputs: tuple[FieldShape, ...] | None = None
        self.row_bytes = sum(f.row_bytes for f in fields if f.axis is not None)
        self.has_strings = any(f.dtype.is_bytes for f in fields)
        self.last_output_bytes = 0
        self.cost = Cost()
        self._layouts: dict[tuple[int, int], Layout] = {}

    def layout(self, rows: int, heap_bytes: int) -> Layout:
        """Return the layout for so many rows; the same one for the same question."""
        key = (rows, heap_bytes)
        layout = self._layouts.get(key)
        if layout is None:
            layout = place(next(_layout_ids), rows, self.fields, self.outputs, heap_bytes)
            self._layouts[key] = layout
        return layout

    def learn(self, outputs: tuple[FieldShape, ...] | None) -> None:
        """Take the outputs' row shapes for layouts made from now on."""
        self.outputs = outputs
        self._layouts.clear()


class Batch:
    """Rows that may run together. ``open`` while further requests may join.

    It is either of requests all of whose tensors are here, or of ones with some ``elsewhere``.
    """

    def __init__(
        self,
        shape: ShapeClass,
        key: tuple[object, ...],
        buffer: BatchBuffer,
        *,
        elsewhere: bool = False,
    ) -> None:
        self.shape = shape
        self.key = key
        self.buffer = buffer
        self.elsewhere = elsewhere
        self.open = True
        self.tickets: collections.deque[Ticket] = collections.deque()
        buffer.hold()

    def put(self, ticket: Ticket) -> None:
        """Write a request into the next rows."""
        ticket.batch = self
        ticket.first = self.buffer.claim(ticket.rows)
        self.buffer.write(ticket.first, ticket.rows, ticket.inputs)
        self.buffer.hold()  # the ticket's: until its answer is encoded
        self.tickets.append(ticket)

    def untie(self) -> None:
        """Let requests that came together stand here each by itself."""
        self.tickets = collections.deque(
            [single for ticket in self.tickets for single in ticket.untie()]
        )

    def withdraw(self, ticket: Ticket) -> None:
        """Take back rows that no worker has seen; the rows behind them move up."""
        self.tickets.remove(ticket)
        if ticket.dispatched == 0:
            self.buffer.close_gap(ticket.first, ticket.rows)
            for other in self.tickets:
                if other.first > ticket.first:
                    other.first -= ticket.rows
        self.buffer.release()
