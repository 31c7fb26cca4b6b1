"""The master's side of one front-end process: its requests on the data plane, its memory.

What a process says is believed no further than it can hurt itself: the segments it names must be
lent to it, and lie around what it says lies in them.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import logging
from collections.abc import Callable
from typing import Any

from serving.channel.arena import Arena
from serving.channel.segment import Segment
from serving.dataplane import Claim as PlaneClaim
from serving.errors import InternalError, ServingError, Unavailable
from serving.frontends.shared_memory.regions import Registry
from serving.gateway import values
from serving.gateway.looks import Reader, Spec, Writer
from serving.gateway.messages import (
    Abandon,
    AbandonRow,
    Answer,
    Ask,
    Back,
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
    Refused,
    Release,
    Told,
    Unused,
    Want,
)
from serving.gateway.words import error_to_json, statistics_to_json
from serving.master.desk_regions import RegionsDesk
from serving.master.desk_rows import RowsDesk
from serving.master.plane import MasterPlane
from serving.repository.override import Override
from serving.request import Elsewhere, InferRequest, InferResponse
from serving.tensor import Tensor

_log = logging.getLogger("serving.gateway")

Send = Callable[..., None]
"""Sends a message, with a descriptor if given."""


class Desk:
    """Owns what one front-end process has claimed, holds and was lent. Event loop only.

    ``arena`` has the segments that answers lie in, ``trays`` those that are lent to receive into.
    ``caught_up`` returns once all front ends know what is served now. ``registry`` has the regions
    of clients, None where they may not share any.
    """

    def __init__(
        self,
        plane: MasterPlane,
        arena: Arena,
        trays: Arena,
        send: Send,
        caught_up: Callable[[], Any],
        registry: Registry | None = None,
    ) -> None:
        self._plane = plane
        self._arena = arena
        self._trays = trays
        self._send = send
        self._caught_up = caught_up
        self._claims: dict[int, PlaneClaim] = {}
        self._held: dict[int, InferResponse] = {}
        self._lent: dict[int, Segment] = {}
        self._shown: set[int] = set()
        self._reader, self._writer = Reader(), Writer()
        self._tasks: set[asyncio.Task[None]] = set()
        self._rows = RowsDesk(plane, send, self._writer, _known)
        self._regions = None if registry is None else RegionsDesk(registry, send)

    def heard(self, message: Message) -> None:
        """Take what the process says; raises ValueError for what no healthy one would."""
        match message:
            case Claim():
                self._on_claim(message)
            case Gather():
                self._on_gather(message)
            case AbandonRow():
                self._rows.abandon(message.serial, message.caller)
            case Release():
                self._let_go(message.serial)
            case Abandon():
                self._on_abandon(message.serial)
            case Want():
                self._on_want(message.nbytes)
            case Back():
                self._trays.give(self._lent_tray(message.segment))
                del self._lent[message.segment]
            case Counted():
                self._plane.counted(message.front_end, message.code)
            case Ask():
                self._spawn(self._on_ask(message))
            case Unused():
                self._shared.unused(message.region)
            case _:
                raise ValueError(f"an unexpected {type(message).__name__}")

    def tell_regions(self) -> None:
        """Tell the process which regions of clients were registered or unregistered."""
        if self._regions is not None:
            self._regions.tell()

    def forget(self, segment: int) -> None:
        """A segment is being closed: the process unmaps it."""
        if segment in self._shown:
            self._shown.discard(segment)
            self._send(Forget(segment))

    def abandon_all(self) -> None:
        """The process is gone or goes: nobody waits for what it claimed, or reads what it held."""
        claims, self._claims = self._claims, {}
        for claim in claims.values():
            self._plane.abandon(claim)
        self._rows.abandon_all()
        held, self._held = self._held, {}
        for response in held.values():
            response.release()
        for task in self._tasks:
            task.cancel()
        self._shown.clear()
        if self._regions is not None:
            self._regions.let_go()

    def take_back(self) -> None:
        """The process is gone for certain: what it could write to may be used again."""
        for tray in self._lent.values():
            self._trays.give(tray)
        self._lent.clear()

    @property
    def unanswered(self) -> int:
        """Requests that it waits for."""
        return len(self._claims) + self._rows.unanswered

    # -- requests ------------------------------------------------------------------------------

    def _on_claim(self, claim: Claim) -> None:
        serial = claim.serial
        look = self._reader.request(claim.look)
        if len(look.specs) != len(claim.places):
            raise ValueError("a claim with another number of tensors than it promises")
        elsewhere = self._shared.elsewhere(claim.afar) if claim.afar else None
        if elsewhere is None:
            inputs = tuple(
                [self._input(*pair, claim.data) for pair in zip(look.specs, claim.places)]  # noqa: B905
            )
        else:
            inputs = self._inputs_there(look.specs, claim, elsewhere)
        request = InferRequest(
            look.servable,
            inputs,
            look.version,
            look.method,
            look.outputs,
            claim.id,
            claim.deadline,
            claim.priority,
            look.sequence,
            look.parameters,
            claim.generation,
            elsewhere,
        )
        try:
            place = self._plane.claim(request)
            self._claims[serial] = place
            place.tell(functools.partial(self._ended, serial))
            self._plane.commit(place)
        except Exception as error:
            taken = self._claims.pop(serial, None)
            if taken is not None:
                self._plane.abandon(taken)
            self._fail(serial, error, refused=True)

    def _on_gather(self, gathered: Gather) -> None:
        look = self._reader.request(gathered.look)
        if len(look.specs) != 1 or not look.specs[0].shape:
            raise ValueError("rows of something else than one input")
        if not gathered.unit or look.specs[0].shape[0] % gathered.unit:
            raise ValueError("rows that cannot be divided among their callers")
        inputs = (self._input(look.specs[0], gathered.place, gathered.data),)
        request = InferRequest(
            look.servable, inputs, look.version, look.method, look.outputs,
            generation=gathered.generation,
        )  # fmt: skip
        self._rows.take(gathered.serial, request, gathered.unit)

    def _input(self, spec: Spec, place: Place, data: bytes) -> Tensor:
        memory = self._lent_tray(place.segment).bytes if place.segment else data
        return values.read(spec, memory, place.offset, place.nbytes)

    def _inputs_there(
        self, specs: tuple[Spec, ...], claim: Claim, elsewhere: Elsewhere
    ) -> tuple[Tensor, ...]:
        """Return the inputs, without elements where a worker is to read them."""
        return tuple(
            [
                Tensor(*spec)
                if spec.name in elsewhere.sources
                else self._input(spec, place, claim.data)
                for spec, place in zip(specs, claim.places, strict=True)
            ]
        )

    @property
    def _shared(self) -> RegionsDesk:
        if self._regions is None:
            raise ValueError("there are no regions of clients here")
        return self._regions

    def _lent_tray(self, segment: int) -> Segment:
        tray = self._lent.get(segment)
        if tray is None:
            raise ValueError(f"segment {segment} is not lent to it")
        return tray

    def _ended(self, serial: int, outcome: InferResponse | BaseException) -> None:
        claimed = self._claims.pop(serial, None)
        if not isinstance(outcome, InferResponse):
            if claimed is not None:
                self._fail(serial, outcome)
        elif claimed is None:
            outcome.release()
        else:
            try:
                self._answer(serial, outcome)
            except Exception as error:  # nobody else would tell whoever waits
                outcome.release()
                self._fail(serial, error)

    def _answer(self, serial: int, response: InferResponse) -> None:
        outputs = response.outputs
        look = self._writer.response(response)
        if sum([values.size_of(tensor) for tensor in outputs]) <= values.INLINE_BYTES:
            places, data = values.inline(outputs)
            held = False
        else:
            places, data = self._placed(outputs)
            held = any(place.segment for place in places)
        self._send(Answer(serial, held, look, places, data))
        if held:
            self._held[serial] = response
        else:
            response.release()

    def _placed(self, outputs: tuple[Tensor, ...]) -> tuple[tuple[Place, ...], bytes]:
        """Return where outputs lie; those outside of segments, and small ones, travel along."""
        places: list[Place] = []
        parts: list[bytes] = []
        at = 0
        for tensor in outputs:
            place = values.place_of(tensor, self._locate)
            if place is None:
                data = values.bytes_of(tensor)
                place = Place(0, at, len(data))
                parts.append(data)
                at += len(data)
            places.append(place)
        return tuple(places), b"".join(parts)

    def _locate(self, address: int, nbytes: int) -> tuple[Segment, int] | None:
        """Find memory in the arena, and show the process the segment that it is in."""
        found = self._arena.locate(address, nbytes)
        if found is not None and found[0].id not in self._shown:
            segment = found[0]
            self._send(Lend(segment.id, segment.size, tray=False), segment.fd)
            self._shown.add(segment.id)
        return found

    def _on_abandon(self, serial: int) -> None:
        claim = self._claims.pop(serial, None)
        if claim is None:
            self._let_go(serial)  # its answer is on its way
            return
        self._plane.abandon(claim)
        self._send(Gone(serial))

    def _let_go(self, serial: int) -> None:
        response = self._held.pop(serial, None)
        if response is not None:
            response.release()

    def _fail(self, serial: int, error: BaseException, *, refused: bool = False) -> None:
        self._send(Failed(serial, error_to_json(_known(error)), refused))

    # -- memory --------------------------------------------------------------------------------

    def _on_want(self, nbytes: int) -> None:
        try:
            tray = self._trays.take(nbytes, writable_elsewhere=True)
        except ServingError as error:
            self._send(Deny(error_to_json(error)))
            return
        try:
            self._send(Lend(tray.id, tray.size, tray=True), tray.fd)
        except OSError as error:
            self._trays.give(tray)
            self._send(Deny(error_to_json(_known(error))))
        else:
            self._lent[tray.id] = tray

    # -- questions -----------------------------------------------------------------------------

    async def _on_ask(self, ask: Ask) -> None:
        try:
            answer = await self._answer_to(ask.about, ask.given)
        except Exception as error:
            self._send(Refused(ask.serial, error_to_json(_known(error))))
        else:
            self._send(Told(ask.serial, answer))

    async def _answer_to(self, about: str, given: dict[str, Any]) -> Any:
        plane = self._plane
        if about == "statistics":
            return statistics_to_json(await plane.statistics())
        try:
            return await self._of_servables(about, given)
        finally:
            # Whoever hears how a servable stands may ask another front end for it next.
            await self._caught_up()

    async def _of_servables(self, about: str, given: dict[str, Any]) -> Any:
        plane = self._plane
        match about:
            case "servables":
                return await plane.servables()
            case "index":
                return await plane.index()
            case "load":  # the front end has let the caller in
                await plane.controlled().load(given["servable"], _override(given))
            case "unload":
                await plane.controlled().unload(given["servable"])
            case "register":
                await self._shared.registry.register(**given)
            case "unregister":
                await self._shared.registry.unregister(**given)
            case _:
                raise ValueError(f"a question about {about!r}")
        return None

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _override(given: dict[str, Any]) -> Override:
    files = {(version, name): base64.b64decode(data) for version, name, data in given["files"]}
    return Override(given["config"], files)


def _known(error: BaseException) -> ServingError:
    if isinstance(error, ServingError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return Unavailable("the request was withdrawn by the server", retry_after_s=1.0)
    _log.error("a request of a front end failed", exc_info=error)
    return InternalError("the server failed on this request; its log says more")
