"""One client connection: a request out, its answer back, then the next."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, cast

import grpc
import grpc.aio
import httptools

from serving.bench.payload import GRPC_METHOD, refusal
from serving.v1.bearer import bearer


class Answer(NamedTuple):
    """What came back: ``status`` "200" or "OK" is good; else ``body`` may say what was wrong."""

    status: str
    body: bytes
    headers: Mapping[bytes, bytes]

    @property
    def good(self) -> bool:
        """Whether it is an answer and no error."""
        return self.status in ("200", "OK")

    @property
    def reason(self) -> str:
        """The error in one line."""
        return f"{self.status}: {refusal(self.body)}"


Heard = Callable[[Answer], None]


class Connection(Protocol):
    """Sends one request at a time."""

    def send(self, request: bytes, heard: Heard) -> None:
        """Send a request; ``heard`` is called once, with the answer or what went wrong."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class HttpConnection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive on httptools' parser; opened anew when the server hung up."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._heard: Heard | None = None
        self._body: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._opening: asyncio.Task[None] | None = None

    def send(self, request: bytes, heard: Heard) -> None:
        """Send a whole request as ``payload.http_request`` writes it."""
        self._heard = heard
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(request)
        else:
            self._opening = asyncio.get_running_loop().create_task(self._open_and_send(request))

    def close(self) -> None:
        """Hang up; nobody hears of what is under way, for who hears would send again."""
        self._heard = None
        if self._opening is not None:
            self._opening.cancel()
        if self._transport is not None:
            self._transport.close()

    async def _open_and_send(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self, *self._address)
        except OSError as error:
            self._answer(Answer("no connection", (error.strerror or str(error)).encode(), {}))
            return
        assert self._transport is not None
        self._transport.write(request)

    # -- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            heard, self._heard = self._heard, None
            self.close()
            if heard is not None:
                heard(Answer("no HTTP", str(error).encode(), {}))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that is under way, if one is."""
        self._transport = None
        if self._heard is not None:
            self._answer(Answer("connection lost", str(exc or "").encode(), {}))

    # -- httptools -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """An answer begins."""
        self._body.clear()
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header."""
        self._headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        """Note a part of the body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """Hand the answer over."""
        status = str(self._parser.get_status_code())
        self._answer(Answer(status, b"".join(self._body), self._headers))

    def _answer(self, answer: Answer) -> None:
        heard, self._heard = self._heard, None
        if heard is not None:
            heard(answer)


class GrpcConnection:
    """Calls ModelInfer on a channel that several of these may share."""

    def __init__(
        self, channel: grpc.aio.Channel, timeout_s: float, token: str | None = None
    ) -> None:
        self._call = channel.unary_unary(GRPC_METHOD)
        self._metadata = () if token is None else (("authorization", bearer(token)),)
        self._timeout_s = timeout_s
        self._calling: asyncio.Task[None] | None = None

    def send(self, request: bytes, heard: Heard) -> None:
        """Send a serialised ModelInferRequest."""
        self._calling = asyncio.get_running_loop().create_task(self._ask(request, heard))

    def close(self) -> None:
        """Give up what is under way; the channel is its owner's to close."""
        if self._calling is not None:
            self._calling.cancel()

    async def _ask(self, request: bytes, heard: Heard) -> None:
        try:
            body = await self._call(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            heard(Answer(error.code().name, (error.details() or "").encode(), {}))
            return
        with contextlib.suppress(asyncio.CancelledError):
            heard(Answer("OK", body, {}))
