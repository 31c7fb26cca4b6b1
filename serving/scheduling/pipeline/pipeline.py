"""All methods of one loaded version: what they are, who walks through them, what has happened."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from serving.definition import Definition, Kind, Method, Node
from serving.errors import Cancelled, Overloaded, ServingError, Unavailable
from serving.lifecycle.lookup import no_method, usual_method
from serving.request import Description, InferRequest, RowsListener
from serving.scheduling.admission import order_of, outputs_of
from serving.scheduling.crowd import Crowd, CrowdLimits
from serving.scheduling.drain import Drain
from serving.scheduling.pipeline.call import NO_RUN, MethodCall
from serving.scheduling.pipeline.direct import Direct, DirectTicket, Fit, OnEnd
from serving.scheduling.pipeline.graph import Graph
from serving.scheduling.pipeline.hidden import hidden_methods
from serving.scheduling.pipeline.instances import count
from serving.scheduling.pipeline.port import Port, Terms, Values
from serving.scheduling.pipeline.signature import PortKey, axes_of, signature_of
from serving.scheduling.pipeline.together import TogetherClaim
from serving.scheduling.pipeline.visit import ModelVisit, StageVisit, Visit
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.stages.scheduler import StageScheduler
from serving.scheduling.stages.ticket import StagePlace
from serving.scheduling.statistics import LineStatistics, unanswered
from serving.statistics import VersionStages, VersionStatistics
from serving.tensor import Signature, Tensor

_LOOKS_REMEMBERED = 256


class _Entry:
    """One method: its graph, what callers may know of it, and what was counted.

    ``direct`` is its way past the graph, where it is one model and nothing else, and ``on_end`` is
    told of the ends of its tickets.
    """

    on_end: OnEnd

    def __init__(self, method: Method, description: Description, direct: Direct | None) -> None:
        self.graph = Graph(method)
        self.direct = direct
        self.description = description
        self.statistics = LineStatistics()
        self.outstanding = 0
        self._orders: dict[tuple[object, ...], tuple[int, ...]] = {}

    def inputs(self, request: InferRequest) -> tuple[Tensor, ...]:
        """Return a request's inputs in the method's order; raises InvalidRequest.

        The names that were asked with and for are checked once, and remembered.
        """
        given = request.inputs
        look = (request.outputs, *[tensor.name for tensor in given])
        order = self._orders.get(look)
        if order is None:
            outputs_of(request, self.description)
            order = order_of(request, self.description)
            if len(self._orders) >= _LOOKS_REMEMBERED:
                self._orders.clear()
            self._orders[look] = order
        return tuple([given[index] for index in order])


class Pipeline:
    """Takes requests for one generation of a version with stages. Event loop only.

    ``base`` is the description that all its methods share but for signature, batch axes and
    ``details``; ``ports`` are its models. At most ``most`` requests are under way at a time, and
    each counts among the ``crowd`` until it is answered, wherever in the graph it waits; one that
    goes straight to a model counts there while it waits, as all requests of models do.
    """

    def __init__(
        self,
        base: Description,
        definition: Definition,
        ports: Mapping[PortKey, Port],
        scheduler: Scheduler,
        stages: StageScheduler,
        *,
        most: int,
        hidden: bool,
        crowd: Crowd | None = None,
        details: Callable[[str, Signature], Mapping[str, Any]] = lambda _method, _signature: {},
    ) -> None:
        self.generation = base.generation
        self.ports = dict(ports)
        self.uses_stages = bool(definition.stages)
        self._base = base
        self._scheduler = scheduler
        self._stages = stages
        self._most = most
        self._crowd = Crowd(CrowdLimits()) if crowd is None else crowd
        self._drain = Drain()
        self._details = details
        self._calls: set[MethodCall | DirectTicket] = set()
        self._tied = 0  # callers who came together, and are not among those
        methods = [*definition.methods, *(hidden_methods(ports) if hidden else ())]
        # Hidden ones are only told of where there are no others.
        self.names = tuple(method.name for method in definition.methods or methods)
        self._entries = {
            m.name: _Entry(m, self._describe(m), Direct.of(m, self.ports)) for m in methods
        }
        for entry in self._entries.values():
            entry.on_end = functools.partial(self._ended, entry)

    # -- what it offers ------------------------------------------------------------------------

    def description(self, method: str | None) -> Description:
        """Describe a method; None: the only one, or the one called ``predict``. Raises NotFound."""
        return self._entry(method).description

    def descriptions(self) -> dict[str, Description]:
        """Describe every method that can be asked for, by name."""
        return {name: entry.description for name, entry in self._entries.items()}

    def retell(self, versions: tuple[int, ...], labels: Mapping[str, int]) -> None:
        """Let all descriptions name the versions that are READY now, and their labels."""
        for entry in self._entries.values():
            entry.description = replace(entry.description, versions=versions, labels=labels)

    # -- requests ------------------------------------------------------------------------------

    def claim(self, request: InferRequest) -> MethodCall | DirectTicket:
        """Check a request and take it in; raises InvalidRequest, NotFound or Overloaded.

        A ticket is for the scheduler to commit or to abandon; it may be refused as one of a
        model's: Unavailable, DeadlineExceeded.
        """
        entry = self._entry(request.method)
        try:
            if entry.direct is not None:
                fit = entry.direct.fit(request, entry.description)
                if fit is not None:
                    return self._claim_directly(entry, entry.direct, request, fit)
            return self._claim(entry, request)
        except ServingError as error:
            entry.statistics.refuse(error)
            raise

    def take_rows(
        self, request: InferRequest, unit: int, listener: RowsListener
    ) -> TogetherClaim | None:
        """Take in and commit instances that are callers of their own; see ``TakesRows``.

        None where they must come one by one, as those with several each; raises InvalidRequest
        and NotFound.
        """
        entry = self._entry(request.method)
        direct = entry.direct if unit == 1 else None
        rows = None if direct is None else direct.rows(request, entry.description)
        callers = request.inputs[0].shape[0]
        if direct is None or rows is None or self._under_way + callers > self._most:
            return None
        asked = rows.request(request)
        on_end = functools.partial(self._rows_ended, entry)
        together = TogetherClaim(listener, callers, rows.taken, entry.description, on_end)
        line = direct.line
        together.claim = self._scheduler.take_rows(line, asked, line.instance_rows, together.heard)
        if together.claim is None:
            return None
        self._tied += callers
        entry.outstanding += callers
        entry.statistics.requests += callers
        return together

    def abandon_row(self, together: TogetherClaim, caller: int) -> None:
        """Withdraw one of the callers of ``take_rows``."""
        claim = together.claim
        if claim is None or not together.waits(caller):
            return
        self._scheduler.abandon_row(claim, caller)
        single = claim.singles.get(caller)
        if single is not None and single.closed and together.waits(caller):
            together.left(caller, Cancelled("the request was withdrawn"))

    def enter(self, method: str, index: int, node: Node, values: Values, terms: Terms) -> Visit:
        """Hand values to a stage; see ``passage.Doors``."""
        if node.kind is Kind.MODEL:
            port = self.ports[node.name, node.subgraph]
            return ModelVisit.begin(self._scheduler, port, port.request(values, terms))
        ticket = self._stages.claim(
            self.generation,
            node.name,
            values,
            deadline=terms.deadline,
            priority=terms.priority,
            id=terms.id,
            where=StagePlace(method, index + 1, node.tag),
            born=terms.born,
        )
        return StageVisit(self._stages, ticket)

    async def drain(self, deadline_s: float) -> None:
        """Return once every request is answered; what is late fails.

        But for tickets of a model's line, which fail with it.
        """
        limit = time.monotonic() + deadline_s
        while self._under_way and time.monotonic() < limit:
            await asyncio.sleep(0.005)
        for call in list(self._calls):
            if isinstance(call, MethodCall):
                error = Unavailable("the version was unloaded", code="unloaded", retry_after_s=1.0)
                call.fail(error)

    # -- what has happened -----------------------------------------------------------------------

    @property
    def serves(self) -> bool:
        """Whether somebody is there to run each of its models, and its functions."""
        return all(self._scheduler.has_slot(p.line.model) for p in self.ports.values()) and (
            not self.uses_stages or self._stages.has_worker(self.generation)
        )

    def snapshots(self, now: float, clock_s: float) -> list[VersionStatistics]:
        """Return what was counted: of each method, then of each model."""
        return [
            *[_snapshot(entry) for entry in self._entries.values()],
            *[port.line.snapshot(now, clock_s) for port in self.ports.values()],
        ]

    def stages(self) -> VersionStages:
        """Return what was counted of each function."""
        base = self._base
        counted = self._stages.statistics(self.generation) if self.uses_stages else ()
        return VersionStages(base.servable, base.version, counted)

    # -- inside --------------------------------------------------------------------------------

    def _claim(self, entry: _Entry, request: InferRequest) -> MethodCall:
        description = entry.description
        inputs = entry.inputs(request)
        rows, ahead = count(inputs), self._under_way
        nbytes = sum([tensor.nbytes for tensor in inputs])
        if ahead >= self._most:
            raise self._full(ahead)
        self._crowd.room(nbytes, self._drain, ahead)

        def ended(call: MethodCall) -> None:
            self._calls.discard(call)
            self._crowd.left(nbytes)
            self._drain.landed(1, time.monotonic(), busy=self._under_way > 0)
            entry.outstanding -= 1

        call = MethodCall(
            request, inputs, rows, entry.graph, self, entry.statistics, ended, description.version
        )
        self._calls.add(call)
        self._crowd.entered(nbytes)
        entry.outstanding += 1
        return call

    def _claim_directly(
        self, entry: _Entry, direct: Direct, request: InferRequest, fit: Fit
    ) -> DirectTicket:
        ahead = len(self._calls) + self._tied
        if ahead >= self._most:
            raise self._full(ahead)
        ticket = direct.ticket(request, fit, entry.description.version, entry.on_end)
        try:
            self._scheduler.take(ticket)
        except ServingError as error:
            ticket.line.statistics.refuse(error)
            raise
        self._calls.add(ticket)
        entry.outstanding += 1
        entry.statistics.requests += 1
        return ticket

    def _ended(self, entry: _Entry, ticket: DirectTicket, error: ServingError | None) -> None:
        now = time.monotonic()
        if error is None:
            entry.statistics.answered(1, now - ticket.born, 0.0, NO_RUN)
        else:
            entry.statistics.fail(error, now - ticket.born)
        self._calls.discard(ticket)
        self._drain.landed(1, now, busy=self._under_way > 0)
        entry.outstanding -= 1

    def _rows_ended(
        self, entry: _Entry, count: int, born: float, error: ServingError | None
    ) -> None:
        now = time.monotonic()
        if error is None:
            entry.statistics.answered(count, now - born, 0.0, NO_RUN, count)
        else:
            entry.statistics.fail(error, now - born, count)
        self._tied -= count
        self._drain.landed(count, now, busy=self._under_way > 0)
        entry.outstanding -= count

    @property
    def _under_way(self) -> int:
        """Requests that are not over."""
        return len(self._calls) + self._tied

    def _full(self, ahead: int) -> Overloaded:
        wait = self._drain.text(ahead)
        return Overloaded(
            f"servable {self._base.servable!r} has a full queue",
            code="queue_full",
            expected=f"at most {self._most} requests under way",
            given=f"{ahead} under way" + (f", {wait}" if wait else ""),
            fix="try again later, or raise max_queue_size or [stages] workers",
            retry_after_s=self._drain.retry_after_s(ahead),
            limit=self._most,
        )

    def _entry(self, method: str | None) -> _Entry:
        entry = self._entries.get(method or usual_method(self.names))
        if entry is None:
            raise no_method(self._base.servable, self.names, method)
        return entry

    def _describe(self, method: Method) -> Description:
        signature = signature_of(method, self.ports)
        return replace(
            self._base,
            signature=signature,
            batch=axes_of(signature),
            details=self._details(method.name, signature),
            method=method.name,
            methods=self.names,
        )


def _snapshot(entry: _Entry) -> VersionStatistics:
    """Return a method's counters; what runs did is counted where they are."""
    counted, description = entry.statistics, entry.description
    return VersionStatistics(
        servable=f"{description.servable}:{description.method}",
        version=description.version,
        rows=counted.rows,
        success_ns=round(counted.success_s * 1e9),
        queue_ns=0,
        input_ns=0,
        infer_ns=0,
        output_ns=0,
        latencies=tuple(counted.latencies),
        runs=(),
        failed_runs=0,
        last_run_ms=0,
        failures=unanswered(counted.failed),
        fail_ns=round(counted.fail_s * 1e9),
        refusals=unanswered(counted.refused),
        unfinished=entry.outstanding,
        waiting=0,
        waiting_rows=0,
        waiting_bytes=0,
    )
