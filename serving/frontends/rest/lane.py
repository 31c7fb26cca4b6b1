"""The short way of a small inference call: from the parsed head to one write, without ASGI.

A call comes here when its head says that it is plain: a POST to an inference route with a short
body of known length, not encoded, no ``Expect``, no upgrade, of somebody who may ask. It is
decoded, run and encoded by the same codecs and the same exchange as on the ordinary way; what is
saved is the ASGI scope, the task, and the messages between them. Whatever is not plain goes the
ordinary way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from serving.dataplane import DataPlane
from serving.errors import NotFound, ServingError, Unavailable
from serving.frontends.rest.entry import shut_out
from serving.frontends.rest.exchange import Exchange, Outcome
from serving.frontends.rest.gathering import Gatherings
from serving.frontends.rest.inference_route import WireFormat, find
from serving.frontends.rest.refusal import refusal
from serving.frontends.rest.seat import Seat
from serving.frontends.rest.shared_calls import SharedCalls
from serving.frontends.rest.v2_call import V2Call
from serving.frontends.rest.wire import CLOSE, Call, Headers, Reply, echo
from serving.frontends.shared_memory.regions import Regions

MAX_BODY_BYTES = 64 * 1024
"""A connection that is slow to send holds this much at most, as much as its head may be."""

_MOST_HEADS = 1024
_MOST_ROUTES = 1024
_MOST_STARTS = 256
_LONGEST_HEAD = 2048
_LONGEST_URL = 1024
_FOR_ONE = frozenset((b"x-request-id", b"x-request-timeout-ms"))
"""Fields that say something of one request, which it does not share with others."""

_NOT_PLAIN = frozenset((b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"))


Fields = tuple[tuple[bytes, bytes], ...]
"""Header fields, in order."""


class Head(NamedTuple):
    """The head of a call that the lane takes."""

    form: WireFormat
    headers: Headers
    length: int
    keep_alive: bool


class Lane:
    """What the lane calls of all connections share. Event loop only."""

    def __init__(
        self,
        plane: DataPlane,
        pool: Executor,
        max_body_bytes: int,
        regions: Regions | None = None,
    ) -> None:
        self.plane = plane
        self.pool = pool
        self.shared = SharedCalls(regions, pool)
        self.gatherings = Gatherings(plane, self.start_of, self.refused)
        self._limit = min(max_body_bytes, MAX_BODY_BYTES)
        self._routes: dict[bytes, WireFormat] = {}
        self._known: dict[bytes, Head] = {}
        self._date: Sequence[tuple[bytes, bytes]] = ()
        self._starts: dict[tuple[bytes, Fields, int], bytes] = {}

    def set_date(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """Set the header fields that begin every response; called each second."""
        self._date = fields
        self._starts.clear()

    def head(self, url: bytes, fields: list[tuple[bytes, bytes]], keep_alive: bool) -> Head | None:
        """Return the head of a POST when it is plain, else None."""
        form = self._form(url)
        if form is None:
            return None
        headers = dict(fields)
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or len(length) > 9 or int(length) > self._limit:
            return None
        if not _NOT_PLAIN.isdisjoint(headers) or shut_out(self.plane, headers) is not None:
            return None
        return Head(form, headers, int(length), keep_alive)

    def known(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return head and body of data that is one whole request with a head seen before.

        Clients repeat their heads byte for byte; looking one up costs less than parsing it.
        """
        end = data.find(b"\r\n\r\n", 0, _LONGEST_HEAD)
        head = self._known.get(data[:end]) if end > 0 else None
        if head is None or len(data) != end + 4 + head.length:
            return None
        return head, data[end + 4 :]

    def learn(self, data: bytes, head: Head) -> None:
        """Remember the head of data that the parser has found to be one whole request."""
        end = data.find(b"\r\n\r\n", 0, _LONGEST_HEAD)
        text = data[:end]
        # With a bare line feed in it, a head might end earlier for the parser than it does here.
        if end > 0 and len(data) == end + 4 + head.length and _only_crlf(text):
            if len(self._known) >= _MOST_HEADS:
                self._known.clear()
            self._known[text] = head

    def study(self, data: bytes, head: Head, body: bytes) -> None:
        """See whether a whole request, with a body that was decoded, may go with others alike."""
        headers = head.headers
        if not (self.gatherings.possible and head.keep_alive) or not _FOR_ONE.isdisjoint(headers):
            return
        try:
            cut = head.form.cut(body, headers, self.plane.describe)
        except ServingError:
            cut = None
        if cut is not None:
            self.gatherings.stencils.learn(data, head, len(data) - len(body), cut)

    def response(self, reply: Reply, headers: Headers, keep_alive: bool) -> bytes:
        """Return the bytes of a response."""
        start, body = self.start_of(reply), reply.body
        if keep_alive and b"x-request-id" not in headers:
            return b"%b%d\r\n\r\n%b" % (start, len(body), body)
        closing = b"" if keep_alive or CLOSE in reply.headers else b"connection: close\r\n"
        return b"%b%d\r\n%b%b\r\n%b" % (start, len(body), _lines(echo(headers)), closing, body)

    def start_of(self, reply: Reply) -> bytes:
        """Return the bytes of a response up to the number that is the length of its body."""
        key = reply[1:]  # all but the body
        start = self._starts.get(key)
        if start is None:
            if len(self._starts) >= _MOST_STARTS:
                self._starts.clear()
            start = self._starts[key] = self._start(*key)
        return start

    def refused(self, error: Exception, seat: Seat) -> Reply:
        """Return the answer to a request that failed in its seat, counted."""
        head = seat.head
        return refusal(error, head.headers, head.form.error, self.plane)

    def _start(self, content_type: bytes, fields: Fields, status: int) -> bytes:
        return b"%b%bcontent-type: %b\r\n%bcontent-length: " % (
            STATUS_LINE[status],
            _lines(self._date),
            content_type,
            _lines(fields),
        )

    def _form(self, url: bytes) -> WireFormat | None:
        """Return the wire format of a URL that is nothing but the path of an inference route."""
        form = self._routes.get(url)
        if form is None and url.isascii() and b"?" not in url and b"#" not in url:
            try:
                form = find(url)
            except NotFound:
                return None
            if form is not None and len(url) <= _LONGEST_URL:
                if len(self._routes) >= _MOST_ROUTES:
                    self._routes.clear()
                self._routes[url] = form
        return form


def _lines(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def _only_crlf(text: bytes) -> bool:
    return text.count(b"\n") == text.count(b"\r\n") == text.count(b"\r")


class LaneCall:
    """One call on the lane; stands in a connection where uvicorn has its request's cycle.

    The connection feeds it the body, unless it has the whole one from the start, calls ``run``
    once it is whole and its turn has come, and is called back with the reply.
    """

    __slots__ = (
        "_body", "_client", "_exchange", "_lane", "_on_reply",
        "head", "keep_alive", "more_body", "response_complete",
    )  # fmt: skip

    def __init__(
        self,
        lane: Lane,
        head: Head,
        on_reply: Callable[[LaneCall, Reply], None],
        client: tuple[str, int] | None = None,
        body: bytes | None = None,
    ) -> None:
        self.head = head
        self.keep_alive = head.keep_alive
        self.more_body = body is None
        self.response_complete = False
        self._lane = lane
        self._on_reply = on_reply
        self._client = client
        self._body: bytes | bytearray = body or b""
        self._exchange: Exchange | None = None

    def feed(self, piece: bytes) -> None:
        """Add to the body; small pieces end up in one buffer."""
        if not self._body:
            self._body = piece
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += piece

    def run(self) -> None:
        """Decode the body and run the call, unless it was given up."""
        if self.response_complete:
            return
        head, lane = self.head, self._lane
        body, self._body = bytes(self._body), b""
        try:
            call = head.form.decode(body, head.headers, lane.plane.describe, time.monotonic())
            if isinstance(call, V2Call) and call.sharing is not None:
                whole = lane.shared.whole(call, head.headers, self._client)
                if isinstance(whole, asyncio.Future):
                    whole.add_done_callback(self._on_whole)
                    return
                call = whole
            self._start(call)
        except Exception as error:
            self._finish(error)

    def _on_whole(self, done: asyncio.Future[V2Call]) -> None:
        """Go on with a call whose inputs were read on a thread, unless it was given up."""
        if self.response_complete:
            _ = done.cancelled() or done.exception()  # looked at, or asyncio would tell of it
            return
        try:
            self._start(done.result())
        except asyncio.CancelledError:
            gone = "the server is shutting down"
            self._finish(Unavailable(gone, code="draining", retry_after_s=5.0))
        except Exception as error:
            self._finish(error)

    def _start(self, call: Call) -> None:
        exchange = self.head.form.exchange(self._lane.plane, self._lane.pool, call, self._finish)
        self._exchange = exchange
        exchange.start()

    def abandon(self) -> None:
        """The client has gone: withdraw what runs, answer nothing."""
        self.response_complete = True
        if self._exchange is not None:
            self._exchange.abandon()
            self._exchange = None

    def _finish(self, outcome: Outcome) -> None:
        self._exchange = None
        if isinstance(outcome, Exception):
            form = self.head.form.error
            outcome = refusal(outcome, self.head.headers, form, self._lane.plane)
        self._on_reply(self, outcome)
