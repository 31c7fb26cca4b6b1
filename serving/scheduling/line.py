"""The waiting room of one loaded version: requests in rows, and behind them a queue.

While buffers are free a request's rows are written at once into the open buffer of its look;
the queue is only for what found no buffer, and is ordered by priority, deadline and arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from serving.channel.arena import Arena
from serving.errors import Overloaded
from serving.request import Description, InferRequest
from serving.scheduling.admission import Admission, Look, admit, look
from serving.scheduling.batch import Batch, ShapeClass
from serving.scheduling.batcher import Limits, Waiting
from serving.scheduling.batches import Batches
from serving.scheduling.company import Company
from serving.scheduling.crowd import Crowd, CrowdLimits
from serving.scheduling.drain import Drain
from serving.scheduling.pace import Pace
from serving.scheduling.piece import Piece
from serving.scheduling.queue import Queue
from serving.scheduling.refusal import full_queue
from serving.scheduling.relays import Relays
from serving.scheduling.sheaf import Sheaf
from serving.scheduling.slot import Slot
from serving.scheduling.speeds import Speeds
from serving.scheduling.statistics import LineStatistics, unanswered
from serving.scheduling.ticket import Ticket
from serving.statistics import VersionStatistics
from serving.tensor import fixed_batch

_LOOKS_REMEMBERED = 1024


@dataclass(frozen=True)
class LineSettings:
    """What a servable's settings say about waiting; no delay set: experience decides."""

    max_batch_size: int = 32
    max_queue_delay_s: float | None = None
    max_queue_size: int = 1000
    max_queue_bytes: int = 512 << 20


class Line:
    """Owns the tickets of one version from claim until they are sent to a worker.

    It has ``speeds`` once its workers are on several kinds of devices. Every request brings a
    multiple of ``instance_rows``, which ``snapshot`` counts as one row.
    """

    def __init__(
        self,
        model: int,
        description: Description,
        settings: LineSettings,
        static_outputs: bool,
        arena: Arena,
        crowd: Crowd | None = None,
        instance_rows: int = 1,
    ) -> None:
        self.model = model
        self.description = description
        self.settings = settings
        self.static_outputs = static_outputs
        self.statistics = LineStatistics()
        self.fixed = fixed_batch(description.signature, description.batch)
        self.max_batch = self.fixed or (settings.max_batch_size if description.batch.batched else 1)
        self.limits = Limits(self.max_batch, settings.max_queue_delay_s)
        self.slots = 1
        self.speeds: Speeds | None = None
        self.waiting = 0
        self.waiting_bytes = 0
        self._waiting_rows = 0
        self._limited = 0
        self.outstanding = 0
        self._arena = arena
        self._crowd = Crowd(CrowdLimits()) if crowd is None else crowd
        self.instance_rows = instance_rows
        self._verdicts: dict[Look, tuple[Admission, ShapeClass]] = {}
        self._shapes: dict[tuple[object, ...], ShapeClass] = {}
        self.batches = Batches(arena, description.batch.batched, self.max_batch, self.fixed)
        self._queue = Queue()
        self._running = 0
        self._running_rows = 0
        self._company = Company()
        self._drain = Drain()
        self._pace = Pace()
        self._relays = Relays()
        self.on_wait: Callable[[Line], None] = lambda _line: None

    def served_by(self, slots: int, spare: int) -> None:
        """Know how many slots there are, and how many rows of buffers they need for filler."""
        self.slots = self.batches.slots = slots
        self.batches.spare = max(self.batches.spare, spare)

    def when_free(self, tell: Callable[[], None]) -> None:
        """Tell when a buffer has come free."""
        self.batches.on_free = tell

    def gears_on(self, slot: Slot) -> tuple[int, ...] | None:
        """Return the only numbers of rows that a run has on a slot, None where any will do.

        A run of a request that is alone has the rows that the request has.
        """
        return slot.gears.get(self.model) if self.description.batch.batched else None

    # -- coming in ----------------------------------------------------------------------------

    def check(self, request: InferRequest) -> tuple[Admission, ShapeClass]:
        """Return the verdict on a request's look; raises InvalidRequest."""
        key = look(request)
        found = self._verdicts.get(key)
        if found is None:
            admission = admit(request, self.description)
            shape = self._shapes.get(admission.fields)
            if shape is None:
                shape = self._shapes[admission.fields] = ShapeClass(admission.fields)
            if len(self._verdicts) >= _LOOKS_REMEMBERED:
                self._verdicts.pop(next(iter(self._verdicts)))
            if len(self._shapes) > _LOOKS_REMEMBERED:
                self._shapes.pop(next(iter(self._shapes)))
            found = self._verdicts[key] = (admission, shape)
        return found

    def room(self, more_bytes: int) -> None:
        """Raise Overloaded when this waiting room, or the server, holds all that it may."""
        most = (self.settings.max_queue_size, self.settings.max_queue_bytes)
        held = self.waiting_bytes
        if self.waiting >= most[0] or (self.waiting and held + more_bytes > most[1]):
            name = self.description.servable
            raise full_queue(name, most, (self.waiting, held), self._drain, self._ahead)
        self._crowd.room(more_bytes, self._drain, self._ahead)

    def has_room(self, more_bytes: int, requests: int) -> bool:
        """Return whether ``room`` would let in so many requests, one after the other."""
        settings = self.settings
        return (
            self.waiting + requests <= settings.max_queue_size
            and self.waiting_bytes + more_bytes <= settings.max_queue_bytes
            and self._crowd.has_room(more_bytes, requests)
        )

    def ties(self, unit: int) -> bool:
        """Return whether callers of so many rows each may come as one ticket."""
        axes = self.description.batch
        rows = axes.batched and all(axis == 0 for axis in axes.inputs) and not self.fixed
        return rows and unit <= self.max_batch

    @property
    def prospect(self) -> str:
        """How many wait here, and how long that takes as far as is known; for messages."""
        about = self._drain.text(self._ahead)
        waiting = "1 request" if self.waiting == 1 else f"{self.waiting} requests"
        return f"{waiting} waiting" + (f", {about}" if about else "")

    @property
    def _ahead(self) -> int:
        """Rows that are run before those of a request that comes now."""
        return self._waiting_rows + self._running_rows

    @property
    def queued(self) -> bool:
        """Whether there are some for whom there were no rows yet."""
        return bool(self._queue)

    def take(self, ticket: Ticket) -> None:
        """Take a ticket in: into rows if a buffer is free, else into the queue."""
        if self._queue or not self.batches.place(ticket, running=self._running > 0):
            self._queue.add(ticket)
        self._entered(ticket)
        self._company.arrived(ticket.born, self._ahead)

    def untie(self, sheaf: Sheaf) -> None:
        """Let the callers of a sheaf that waits each wait by themselves."""
        if sheaf.batch is not None:
            sheaf.batch.untie()
        else:
            self._queue.untie(sheaf)

    def retake(self, ticket: Ticket) -> None:
        """Take back a ticket whose run failed for no fault of its own: it runs alone now."""
        ticket.alone = True
        self._return(ticket)

    def withdraw(self, ticket: Ticket) -> None:
        """Forget a ticket that still waits; its rows are closed up."""
        if not ticket.waiting:
            return
        self._left(ticket)
        batch = ticket.batch
        if batch is not None:
            batch.withdraw(ticket)
            ticket.batch = None
            self.batches.close_if_empty(batch)

    def refill(self) -> tuple[Ticket, Overloaded] | None:
        """Move queued tickets into rows while there are buffers.

        Returns a ticket that can never have one, because it alone is over the budget.
        """
        while self._queue:
            ticket = self._queue.first(self._room_for)
            try:
                if ticket.waiting and not self.batches.place(ticket, running=self._running > 0):
                    return None
            except Overloaded as error:
                if self._arena.used_bytes and not self.batches.buffers:
                    return None  # memory of other servables will come free
                return ticket, error
            self._queue.pop()
        return None

    # -- going out ----------------------------------------------------------------------------

    def oldest(self) -> float | None:
        """Return when the first committed ticket came, or None if nothing can run."""
        head = self.batches.head()
        return None if head is None else head.tickets[0].born

    def lone(self, now: float, turn_s: float) -> Batch | None:
        """Return the batch of the only request that is inside, where it is to run at once.

        That is what is decided of one whom nobody is expected to join: there is nothing to weigh.
        None where it takes more to tell; for ``turn_s`` see Pace.
        """
        delay_s = self.limits.max_queue_delay_s
        batch = self.batches.head()
        if batch is None or delay_s or self.fixed or self._limited or self.speeds is not None:
            return None
        ticket = batch.tickets[0]
        rows = ticket.rows
        if self._ahead != rows or rows > self.max_batch or ticket.dispatched or batch.elsewhere:
            return None
        if delay_s is None:
            if self._company.expected(rows):
                return None
            best = batch.shape.cost.best_rows(self.max_batch, rows, rows)
            if rows < best and self._pace.lingers(now, turn_s, rows):
                return None
        return batch

    def waiting_view(self, now: float, turn_s: float, slot: Slot) -> tuple[Batch, Waiting] | None:
        """Return the batch whose turn it is, as the batcher sees it for a free slot.

        For ``turn_s`` see Pace. What a row costs is said only where it is the same for every row:
        a run that is filled up takes as long for one row as for all.
        """
        head = self.batches.head()
        if head is None:
            return None
        rows: list[int] = []
        for ticket in head.tickets:
            if not ticket.committed or len(rows) >= self.max_batch:
                break
            if isinstance(ticket, Sheaf):
                rows += [ticket.unit] * ticket.callers
            else:
                rows.append(ticket.rows - ticket.dispatched)
        cost = head.shape.cost
        inside = self._ahead
        learns = self.limits.max_queue_delay_s is None
        expected = self._company.expected(inside) if learns else 0
        best = self.fixed or cost.best_rows(
            self.max_batch, self._waiting_rows + expected, rows[0] if rows else 1
        )
        busy = slot.occupancy.share(now)
        relay_rows = self.max_batch
        if learns and not self.fixed:
            relay_rows = self._relays.rows(self._company.peak, self.slots, busy, cost.fixed_s)
        return head, Waiting(
            rows,
            self._waiting_rows,
            now - head.tickets[0].born,
            not head.open,
            self._running_rows,
            best,
            expected,
            now - self._company.quiet_since,
            self._company.patience_s(cost.fixed_s),
            learns
            and self._waiting_rows < min(best, relay_rows)
            and self._pace.lingers(now, turn_s, self._waiting_rows),
            cost.fixed_s,
            0.0 if self.fixed or self.gears_on(slot) else cost.row_s,
            busy,
            relay_rows,
        )

    def overdue(self, now: float) -> list[Ticket]:
        """Return the tickets of the batch whose turn it is that have passed their deadlines.

        Their timers are about to say so too, but a loop that is busy runs them late.
        """
        head = self.batches.head() if self._limited else None
        if head is None:
            return []
        return [t for t in head.tickets if t.request.deadline and t.request.deadline <= now]

    def sent(self, rows: int, now: float, in_vain: bool, shape: ShapeClass) -> None:
        """A run of so many rows has been cut and goes to a worker."""
        self._pace.sent(self._waiting_rows + rows)
        self._running += 1
        self._running_rows += rows
        inside = self._ahead
        if in_vain:
            self._company.in_vain(inside)
        elif not self.waiting:
            self._company.left(now, inside, shape.cost.fixed_s)

    def landed(self, rows: int, now: float) -> None:
        """A run of so many rows is over."""
        self._running -= 1
        self._running_rows -= rows
        self._drain.landed(rows, now, busy=self.waiting > 0)
        self._relays.landed(rows, self._ahead, now)
        self._company.answered(now)

    def answered(self, now: float) -> None:
        """The callers of a run have their answers."""
        self._company.answered(now)

    def cut(self, batch: Batch, requests: int, part_rows: int) -> list[Piece]:
        """Take the next rows out of a batch."""
        if part_rows:
            ticket = batch.tickets[0]
            rows = min(part_rows, ticket.rows - ticket.dispatched)
            piece = Piece(ticket, ticket.dispatched, rows, ticket.attempts)
            ticket.dispatched += rows
            self._waiting_rows -= rows
            if ticket.dispatched == ticket.rows:
                self._left(batch.tickets.popleft())
                self.batches.close_if_empty(batch)
            return [piece]
        pieces = []
        while requests > 0:
            ticket = batch.tickets.popleft()
            if isinstance(ticket, Sheaf) and ticket.callers > requests:
                batch.tickets.appendleft(ticket.split(requests))
            requests -= ticket.callers
            sent = ticket.dispatched
            rows = ticket.rows - sent
            pieces.append(Piece(ticket, sent, rows, ticket.attempts))
            ticket.dispatched = ticket.rows
            self._waiting_rows -= rows
            self._left(ticket)
        self.batches.close_if_empty(batch)
        return pieces

    def move_out(self, batch: Batch) -> None:
        """Place anew what still waits in a batch: the rows behind its last run become filler."""
        self.batches.close(batch)
        batch.untie()
        for ticket in list(batch.tickets):
            self.withdraw(ticket)
            self._return(ticket)

    def everyone(self) -> Iterator[Ticket]:
        """Iterate over all tickets that wait, in rows or in the queue."""
        for batch in list(self.batches):
            yield from list(batch.tickets)
        yield from self._queue

    # -- what has happened here ----------------------------------------------------------------

    def snapshot(self, now: float, clock_s: float) -> VersionStatistics:
        """Return the counters as they stand at ``now``, which ``clock_s`` is in Unix time."""
        counted = self.statistics
        ago_s = now - counted.latest_s
        return VersionStatistics(
            servable=self.description.servable,
            version=self.description.version,
            rows=counted.rows // self.instance_rows,
            success_ns=round(counted.success_s * 1e9),
            queue_ns=round(counted.queue_s * 1e9),
            input_ns=counted.input_ns,
            infer_ns=counted.infer_ns,
            output_ns=counted.output_ns,
            latencies=tuple(counted.latencies),
            runs=counted.by_size(self.instance_rows),
            failed_runs=counted.failed_runs,
            last_run_ms=round((clock_s - ago_s) * 1e3) if counted.sizes else 0,
            failures=unanswered(counted.failed),
            fail_ns=round(counted.fail_s * 1e9),
            refusals=unanswered(counted.refused),
            unfinished=self.outstanding,
            waiting=self.waiting,
            waiting_rows=self._waiting_rows // self.instance_rows,
            waiting_bytes=self.waiting_bytes,
        )

    # -- inside -------------------------------------------------------------------------------

    def _return(self, ticket: Ticket) -> None:
        ticket.waiting = True
        ticket.restart()
        self._entered(ticket)
        if not self.batches.place(ticket, running=self._running > 0):
            self._queue.add(ticket)
            self.on_wait(self)

    def _room_for(self, sheaf: Sheaf) -> int:
        return self.batches.joinable(sheaf.shape, sheaf.unit)

    def _entered(self, ticket: Ticket) -> None:
        self.waiting += ticket.callers
        self.waiting_bytes += ticket.nbytes
        self._waiting_rows += ticket.rows
        self._limited += ticket.request.deadline is not None
        self._crowd.entered(ticket.nbytes, ticket.callers)
        if self._queue or self.waiting == ticket.callers:
            self.on_wait(self)

    def _left(self, ticket: Ticket) -> None:
        if ticket.waiting:
            ticket.waiting = False
            self.waiting -= ticket.callers
            self.waiting_bytes -= ticket.nbytes
            self._limited -= ticket.request.deadline is not None
            self._crowd.left(ticket.nbytes, ticket.callers)
            self._waiting_rows -= ticket.rows - ticket.dispatched
