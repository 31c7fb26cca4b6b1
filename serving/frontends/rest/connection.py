"""One HTTP connection: each request goes by the lane or the ordinary way, answered in order.

uvicorn's protocol (as of 0.54, over httptools) keeps one *cycle* for the request it reads, and a
pipeline of cycles whose turn has not come. A lane call takes a cycle's place in both, so that
order, keep-alive, shutdown and flow control are the same for either way.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from serving.dataplane import DataPlane
from serving.frontends import parting
from serving.frontends.ended import ENDED
from serving.frontends.parting import Parting
from serving.frontends.rest import large_body
from serving.frontends.rest.guard import GuardedProtocol
from serving.frontends.rest.lane import Head, Lane, LaneCall
from serving.frontends.rest.large_body import LargeBody
from serving.frontends.rest.line import Line
from serving.frontends.rest.row_form import Written
from serving.frontends.rest.seat import Seat
from serving.frontends.rest.wire import CLOSE, Reply


class Connection(GuardedProtocol):
    """Made by the server for each connection; ``lane`` None sends everything the ordinary way.

    What is no request at all is refused on behalf of ``plane``.
    """

    # Where uvicorn has cycles there may be lane calls.
    cycle: Any
    pipeline: deque[tuple[Any, Any]]

    def __init__(
        self, config: uvicorn.Config, state: ServerState, lane: Lane | None, plane: DataPlane
    ) -> None:
        super().__init__(plane, config=config, server_state=state, app_state={})
        self._lane = lane
        self._running: LaneCall | Seat | RequestResponseCycle | None = None
        self._held: tuple[LaneCall | Seat, Reply] | None = None
        self._seat = Seat(self, lane)
        self._between = True  # the parser stands between two requests
        self._begun = 0  # requests of which the latest read has the beginning
        self._parting: Parting | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put a line before the transport, to be asked when it is to be closed."""
        self._wire: asyncio.Transport = transport
        self._line = Line(transport, self._part)
        super().connection_made(self._line)

    # -- reading -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take a known head past the parser, or feed the parser: it calls the ``on_`` methods."""
        lane = self._lane
        fresh = self._between and (self.cycle is None or self.cycle.response_complete)
        if lane is None or not fresh:
            super().data_received(data)
            return
        stencil = lane.gatherings.stencils.find(data)
        if stencil is not None:
            self._in_head = False
            seat = self._seat
            seat.take(stencil, data)
            self.cycle = self._running = seat
            if lane.gatherings.has_company():
                lane.gatherings.join(seat)
            else:
                seat.run()
            return
        found = lane.known(data)
        if found is not None:
            self._take_known(lane, *found)
            lane.study(data, *found)
            return
        self._begun = 0
        super().data_received(data)
        call = self.cycle
        if self._between and self._begun == 1 and isinstance(call, LaneCall):
            lane.learn(data, call.head)

    def _take_known(self, lane: Lane, head: Head, body: bytes) -> None:
        self._in_head = False
        call = LaneCall(lane, head, self.reply, self.client, body)
        self.cycle = self._running = call
        call.run()

    def go_alone(self, seat: Seat) -> None:
        """Let the request in the seat go the lane's ordinary way."""
        if self._lane is None or seat.stencil is None:
            return
        body = seat.data[seat.stencil.head_bytes :]
        call = LaneCall(self._lane, seat.head, self.reply, self.client, body)
        call.keep_alive = seat.keep_alive
        seat.response_complete = True
        if self.cycle is seat:
            self.cycle = call
        self._running = call
        call.run()

    def on_message_begin(self) -> None:
        """Begin to collect a head; what ASGI needs is built when it is known to be needed."""
        self.head_begins()
        self._between = False
        self._begun += 1
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Decide which way the request goes; behind the last answer of a connection, neither."""
        if self.transport.is_closing():
            return
        if self.declines():
            self._begun -= 1  # it begins once more
            return
        lane = self._lane
        head = None if lane is None else self._plain_head(lane)
        if lane is None or head is None:
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            HttpToolsProtocol.on_message_begin(self)
            self.url, self.expect_100_continue = url, expects
            self.headers.extend(headers)  # the scope has this very list
            super().on_headers_complete()
            self._offer_large_body(headers)
            return
        self.head_ends()
        call = LaneCall(lane, head, self.reply, self.client)
        earlier, self.cycle = self.cycle, call
        if earlier is None or earlier.response_complete:
            self._running = call
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((call, self.app))

    def _offer_large_body(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Let the request that begins, if it runs already, read a large body past the parser."""
        length, cycle = large_body.length_of(fields), self._running
        if length and cycle is self.cycle and isinstance(cycle, RequestResponseCycle):
            scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
            scope["extensions"] = {large_body.EXTENSION: LargeBody(self, cycle, length).read_into}

    def body_ended(self) -> None:
        """The body of the latest request was taken past the parser: go on with a fresh one."""
        self.begin_anew()
        self.on_message_complete()

    def _plain_head(self, lane: Lane) -> Head | None:
        parser = self.parser
        if parser.get_method() != b"POST":
            return None
        keep_alive = parser.get_http_version() != "1.0" and parser.should_keep_alive()
        return lane.head(self.url, self.headers, keep_alive)

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body on."""
        call = self.cycle
        if isinstance(call, LaneCall):
            self.heard()
            call.feed(body)
        elif not isinstance(call, Seat):
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Run a lane call whose turn it is; an ordinary one runs already."""
        if self.declined:
            return
        self._between = True
        call = self.cycle
        if isinstance(call, Seat):
            return
        if not isinstance(call, LaneCall):
            super().on_message_complete()
            return
        call.more_body = False
        if self._running is call:
            call.run()

    # -- answering -----------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Start the request whose turn it is; uvicorn calls this for pipelined ones too."""
        self._running = cycle
        if not isinstance(cycle, LaneCall):
            super()._start_asgi_task(cycle, app)
        elif not cycle.more_body:
            # Not at once: a pipeline of calls that fail would nest as deep as it is long.
            self.loop.call_soon(cycle.run)

    def answer(self, seat: Seat, start: bytes, written: Written, text: bytes, now: float) -> None:
        """Write one of the answers to those who went together; see ``Caller``."""
        before, after = written.before, written.after
        transport = self.transport
        if not seat.keep_alive or self.flow.write_paused or transport.is_closing():
            self.reply(seat, written.like._replace(body=before + text + after))
            return
        seat.response_complete = True
        length = len(before) + len(text) + len(after)
        transport.write(b"%b%d\r\n\r\n%b%b%b" % (start, length, before, text, after))
        if self.pipeline or self.flow.read_paused:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self._heard = now

    def answer_one(self, seat: Seat, reply: Reply) -> None:
        """Write the answer to a request that is by itself; see ``Caller``."""
        lane, transport = self._lane, self.transport
        if lane is None or not seat.keep_alive or self.flow.write_paused or transport.is_closing():
            self.reply(seat, reply)
            return
        seat.response_complete = True
        body = reply.body
        transport.write(b"%b%d\r\n\r\n%b" % (lane.start_of(reply), len(body), body))
        if self.pipeline or self.flow.read_paused:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self._heard = time.monotonic()

    def reply(self, call: LaneCall | Seat, reply: Reply) -> None:
        """Write a reply, or hold it until the client reads; no later request runs meanwhile."""
        if self.flow.write_paused:
            self._held = call, reply
            return
        call.response_complete = True
        transport = self.transport
        if self._lane is None or transport.is_closing():
            return
        transport.write(self._lane.response(reply, call.head.headers, call.keep_alive))
        if not call.keep_alive or CLOSE in reply.headers:
            transport.close()
        self.on_response_complete()

    def resume_writing(self) -> None:
        """The client reads again: write what was held."""
        super().resume_writing()
        held, self._held = self._held, None
        if held is not None:
            self.reply(*held)

    # -- ends ----------------------------------------------------------------------------------

    def _part(self) -> None:
        """Close; where the client may still be sending, so that it can read its last answer."""
        if self._line.is_closing():
            return
        if self._between and not self.pipeline:
            self._wire.close()
            return
        self._line.end()
        self._parting = Parting(self._wire, self, parting.BODY_BYTES)

    def hear_no_more(self) -> None:
        """Pass over what still comes, known heads as well."""
        self._between = False
        super().hear_no_more()

    def overdue(self, now: float) -> bool:
        """Return whether the client has kept the server waiting too long (``now``: monotonic)."""
        return super().overdue(now) if self._parting is None else self._parting.over(now)

    def cut(self) -> None:
        """End at once, whatever is under way."""
        self._give_up()
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what is under way, and hold on to nothing that refers to this; see ``ENDED``."""
        self._give_up()
        super().connection_lost(exc)
        self._line.let_go()
        self._wire, self._parting = ENDED, None
        self.pipeline.clear()
        del self.scope, self._seat

    def _give_up(self) -> None:
        """Tell the request that runs, where uvicorn would tell the latest."""
        running, self._running, self._held = self._running, None, None
        self.cycle = None
        if isinstance(running, (LaneCall, Seat)):
            running.abandon()
        elif running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
