"""The data plane of a front-end process: each call becomes a message to the master."""

from __future__ import annotations

import asyncio
import base64
import functools
import itertools
import logging
from collections.abc import Callable
from typing import Any, cast

from serving.channel.segment import Segment
from serving.dataplane import Claim as DataPlaneClaim
from serving.dataplane import RepositoryControl, RowsClaim
from serving.errors import Cancelled, ServingError, Unavailable
from serving.gateway import afar, values
from serving.gateway.claim import RemoteClaim
from serving.gateway.directory import Directory
from serving.gateway.looks import Reader, Writer
from serving.gateway.memory import Answers, Trays
from serving.gateway.messages import (
    Abandon,
    AbandonRow,
    Answer,
    Ask,
    Claim,
    Counted,
    Deny,
    Failed,
    Forget,
    Gather,
    Gone,
    Lend,
    Message,
    Place,
    Ready,
    Refused,
    Release,
    RowsAnswer,
    RowsFailed,
    Share,
    Table,
    Told,
    Unshare,
)
from serving.gateway.pipe import Pipe
from serving.gateway.regions import SharedRegions
from serving.gateway.rows import RemoteRows
from serving.gateway.words import error_from_json, statistics_from_json
from serving.lifecycle.gate import Gate
from serving.repository.override import Override
from serving.request import Description, InferRequest, InferResponse, RowsListener, VersionName
from serving.statistics import ServerStatistics
from serving.tensor import Tensor

_log = logging.getLogger("serving.gateway")


class GatewayPlane:
    """Implements ``DataPlane`` by messages over a pipe. Event loop only.

    ``heard`` takes what the master says. A claim is told to the master when it is committed, so
    that each request is one message; what the master refuses comes as the claim's outcome.
    ``shared_bytes`` is how much a request may read of clients' shared memory, None for nothing.
    """

    def __init__(self, pipe: Pipe, gate: Gate, shared_bytes: int | None = None) -> None:
        self._send: Callable[[Message], None] = pipe.send
        self._send_with_next = pipe.send_with_next
        self._take_fd = pipe.take_fd
        self._gate = gate
        self._serials = itertools.count(1)
        self._claims: dict[int, RemoteClaim] = {}
        self._rows: dict[int, RemoteRows] = {}
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._directory = Directory()
        self._writer, self._reader = Writer(), Reader()
        self.trays = Trays(pipe.send)
        self._answers = Answers()
        self.regions: SharedRegions | None = None
        if shared_bytes is not None:
            self.regions = SharedRegions(shared_bytes, self._ask, pipe.send)
        self._ready = False
        self._lost = False
        self.informed = asyncio.Event()
        """Set once the first table is there."""

    # -- requests ------------------------------------------------------------------------------

    def claim(self, request: InferRequest) -> RemoteClaim:
        """Take a place for a request; whether it fits is for the master to say."""
        if self._lost:
            raise _cut_off()
        return RemoteClaim(request)

    def commit(self, claim: DataPlaneClaim) -> None:
        """Tell the master of the request, with its inputs or where they lie."""
        mine = cast(RemoteClaim, claim)
        inputs = mine.request.inputs
        size = sum([values.size_of(tensor) for tensor in inputs])
        if size <= values.INLINE_BYTES:
            self._tell(mine, *values.inline(inputs))
            return
        there = values.placed(inputs, self.trays.locate)
        if there is not None:
            self._tell(mine, *there)
            return
        needed = values.room_for(inputs)
        tray = self.trays.take(needed)
        if tray is None:
            self.trays.ask(needed, functools.partial(self._on_tray, mine))
        else:
            self._fill(mine, tray)

    def abandon(self, claim: DataPlaneClaim) -> None:
        """Withdraw a request; its answer, if it is there or comes yet, is thrown away."""
        mine = cast(RemoteClaim, claim)
        if mine.serial in self._claims and not mine.abandoned:
            self._send(Abandon(mine.serial))
        mine.drop()

    def take_rows(
        self, request: InferRequest, unit: int, listener: RowsListener
    ) -> RemoteRows | None:
        """Take small requests together; see ``TakesRows``.

        What the master cannot take together it takes one by one.
        """
        if len(request.inputs) != 1 or request.method is not None:
            return None
        (whole,) = request.inputs
        if self._lost or whole.array is None or whole.nbytes > values.GATHERED_BYTES:
            return None
        serial = next(self._serials)
        rows = self._rows[serial] = RemoteRows(serial, whole.shape[0] // unit, listener)
        (place,), data = values.inline(request.inputs)
        look = self._writer.request(request)
        self._send(Gather(serial, request.generation, unit, look, place, data))
        return rows

    def abandon_row(self, claim: RowsClaim, caller: int) -> None:
        """Withdraw one of those who came together; see ``TakesRows``."""
        rows = cast(RemoteRows, claim)
        if caller in rows.open:
            rows.open.discard(caller)
            self._send(AbandonRow(rows.serial, caller))
            if not rows.open:
                self._rows.pop(rows.serial, None)

    # -- what is known here --------------------------------------------------------------------

    def describe(
        self, servable: str | None, version: VersionName | None = None, method: str | None = None
    ) -> Description:
        """Describe a method of a servable; see ``DataPlane``."""
        return self._directory.describe(servable, version, method)

    def methods(self, servable: str, version: VersionName | None = None) -> tuple[str, ...]:
        """Return the names of a version's methods; see ``DataPlane``."""
        return self._directory.methods(servable, version)

    def live(self) -> bool:
        """Return whether master and front end are one server."""
        return not self._lost

    def ready(self) -> bool:
        """Return whether the server took requests when it was last heard of."""
        return self._ready and not self._lost

    # -- what the master is asked --------------------------------------------------------------

    async def servables(self) -> list[dict[str, Any]]:
        """List every version; see ``DataPlane``."""
        return cast(list[dict[str, Any]], await self._ask("servables"))

    async def statistics(self) -> ServerStatistics:
        """Return what has been counted by the whole server; see ``DataPlane``."""
        return statistics_from_json(await self._ask("statistics"))

    async def index(self) -> list[dict[str, Any]]:
        """List what there is, looked up anew; see ``DataPlane``."""
        return cast(list[dict[str, Any]], await self._ask("index"))

    def let_in(self, authorization: str | None) -> None:
        """Return if a client may ask; see ``DataPlane``."""
        self._gate.let_in(authorization)

    def control(self, authorization: str | None) -> RepositoryControl:
        """Return who asks the master to load and unload, to somebody who may."""
        self._gate.admit(authorization)
        return _Control(self._ask)

    def answered_with(self, error: ServingError, front_end: str) -> None:
        """Count a call that was answered with an error; the master keeps the sum."""
        self._send(Counted(front_end, error.code))

    # -- what the master says ------------------------------------------------------------------

    def heard(self, message: Message) -> None:
        """Take what the master says about requests and about what is served."""
        match message:
            case Answer():
                self._on_answer(message)
            case Failed():
                error = error_from_json(message.error)
                error.refused = message.refused
                self._end(message.serial, error)
            case RowsAnswer():
                response = self._response(message, "")
                self._end_rows(message.serial, message.first, message.callers, response)
            case RowsFailed():
                error = error_from_json(message.error)
                self._end_rows(message.serial, message.first, message.callers, error)
            case Gone():
                self._end(message.serial, Cancelled("the request was withdrawn"))
            case Lend():
                keeper = self.trays if message.tray else self._answers
                keeper.lent(message, self._take_fd())
            case Deny():
                self.trays.denied(error_from_json(message.error))
            case Forget():
                self._answers.forget(message.segment)
            case Share() if self.regions is not None:
                self.regions.shared(message, self._take_fd())
            case Unshare() if self.regions is not None:
                self.regions.unshared(message)
            case Table():
                self._directory.update(message.servables)
                self.informed.set()
            case Ready():
                self._ready = message.ready
            case Told():
                self._on_told(message.serial, message.answer)
            case Refused():
                self._on_told(message.serial, error_from_json(message.error))
            case _:
                _log.warning("dropped an unexpected %s", type(message).__name__)

    def cut_off(self) -> None:
        """The master is gone: everybody who waits is told so."""
        self._lost = True
        for serial in list(self._claims):
            self._end(serial, _cut_off())
        gathered, self._rows = self._rows, {}
        for rows in gathered.values():
            rows.end_all(_cut_off())
        for serial in list(self._asked):
            self._on_told(serial, _cut_off())

    def sweep(self, now: float) -> None:
        """Give back what has been idle for a while; call each second or so."""
        self.trays.sweep(now)
        if self.regions is not None:
            self.regions.sweep()

    @property
    def unanswered(self) -> int:
        """Requests that the master has not ended yet."""
        return len(self._claims) + len(self._rows)

    # -- inside --------------------------------------------------------------------------------

    def _on_tray(self, claim: RemoteClaim, found: Segment | ServingError) -> None:
        if isinstance(found, ServingError):
            found.refused = True
            claim.end(found)
        elif claim.abandoned:
            self.trays.give(found)
        else:
            self._fill(claim, found)

    def _fill(self, claim: RemoteClaim, tray: Segment) -> None:
        claim.tray = tray
        self._tell(claim, values.write(tray.bytes, tray.id, claim.request.inputs), b"")

    def _tell(self, claim: RemoteClaim, places: tuple[Place, ...], data: bytes) -> None:
        request = claim.request
        serial = claim.serial = next(self._serials)
        self._claims[serial] = claim
        look = self._writer.request(request)
        far = b"" if request.elsewhere is None else afar.encode(request.elsewhere)
        self._send(
            Claim(
                serial, request.generation, request.deadline, request.priority, look,
                request.id, places, data, far,
            )
        )  # fmt: skip

    def _on_answer(self, answer: Answer) -> None:
        claim = self._claims[answer.serial]
        if claim.abandoned:
            self._end(answer.serial, Cancelled("the request was withdrawn"))
            return
        release = None
        if answer.held:
            release = functools.partial(self._send_with_next, Release(answer.serial))
        self._end(answer.serial, self._response(answer, claim.request.id, release))

    def _response(
        self, answer: Answer | RowsAnswer, id: str, release: Callable[[], None] | None = None
    ) -> InferResponse:
        look = self._reader.response(answer.look)
        outputs = tuple(
            [
                self._output(spec, place, answer.data)
                for spec, place in zip(look.specs, answer.places, strict=True)
            ]
        )
        response = InferResponse(look.servable, look.version, id, outputs, release)
        if look.parameters:
            response.parameters.update(look.parameters)
        response.stored = look.stored
        return response

    def _end_rows(
        self, serial: int, first: int, count: int, outcome: InferResponse | ServingError
    ) -> None:
        rows = self._rows.get(serial)
        if rows is not None and rows.end(first, count, outcome):
            del self._rows[serial]

    def _output(self, spec: Any, place: Place, data: bytes) -> Tensor:
        memory = self._answers.get(place.segment).bytes if place.segment else data
        return values.read(spec, memory, place.offset, place.nbytes)

    def _end(self, serial: int, outcome: InferResponse | ServingError) -> None:
        """The master has ended a request: its inputs are not read any more."""
        claim = self._claims.pop(serial)
        tray, claim.tray = claim.tray, None
        if tray is not None:
            self.trays.give(tray)
        claim.end(outcome)

    async def _ask(self, about: str, given: dict[str, Any] | None = None) -> Any:
        if self._lost:
            raise _cut_off()
        serial = next(self._serials)
        told = self._asked[serial] = asyncio.get_running_loop().create_future()
        self._send(Ask(serial, about, given or {}))
        try:
            return await told
        finally:
            self._asked.pop(serial, None)

    def _on_told(self, serial: int, answer: Any) -> None:
        told = self._asked.get(serial)
        if told is None or told.done():
            return  # whoever asked has gone
        if isinstance(answer, ServingError):
            told.set_exception(answer)
        else:
            told.set_result(answer)


class _Control:
    """Loads and unloads by asking the master; see ``RepositoryControl``."""

    def __init__(self, ask: Callable[[str, dict[str, Any]], Any]) -> None:
        self._ask = ask

    async def load(self, servable: str, override: Override) -> None:
        """Load a servable, or load it anew; see ``RepositoryControl``."""
        files = [
            [version, name, base64.b64encode(data).decode()]
            for (version, name), data in override.files.items()
        ]
        given = {"servable": servable, "config": override.config, "files": files}
        await self._ask("load", given)

    async def unload(self, servable: str) -> None:
        """Take a servable down; see ``RepositoryControl``."""
        await self._ask("unload", {"servable": servable})


def _cut_off() -> ServingError:
    return Unavailable(
        "the server is going down and takes no more requests", code="draining", retry_after_s=5.0
    )
