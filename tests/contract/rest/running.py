"""A REST front end on a real socket over a data plane without processes, and its clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx

from serving.config import ServerSettings
from serving.frontends.rest.server import RestFrontEnd
from serving.request import BatchAxes, Description, InferRequest
from serving.tensor import BYTES, FP32, Signature, TensorSpec
from tests.doubles.plane import StubClaim, StubPlane

MIB = 1 << 20
AXES = BatchAxes(True, "asserted", (0,), (0,))
PAIRS = (TensorSpec("x", FP32, ("n", 2)),)
ECHO = Description("echo", 1, Signature(PAIRS, PAIRS), AXES, 32, "stub", versions=(1,))
LONG = (TensorSpec("x", FP32, ("n", "len")),)
WIDE = Description("wide", 1, Signature(LONG, LONG), AXES, 32, "stub", versions=(1,))
TEXT = (TensorSpec("s", BYTES, ("n",)),)
TEXTS = Description("texts", 2, Signature(TEXT, TEXT), AXES, 32, "stub", versions=(1, 2))
CALL = {"servable": "echo", "instances": [[1, 2]]}


class HeldPlane(StubPlane):
    """Answers when told to; commits are kept until then."""

    def __init__(self, *descriptions: Description) -> None:
        super().__init__(*descriptions)
        self.held: list[StubClaim] = []

    def commit(self, claim: StubClaim) -> None:
        self.held.append(claim)

    def answer_all(self) -> None:
        for claim in self.held:
            super().commit(claim)
        self.held.clear()


class RefusingPlane(StubPlane):
    """Refuses to claim from the n-th request on."""

    def __init__(self, after: int, error: Exception) -> None:
        super().__init__(ECHO, WIDE)
        self._after = after
        self._error = error

    def claim(self, request: InferRequest) -> StubClaim:
        if len(self.requests) >= self._after:
            raise self._error
        return super().claim(request)


@contextlib.asynccontextmanager
async def serving(
    plane: StubPlane, *, lane: bool = True, **settings: Any
) -> AsyncIterator[RestFrontEnd]:
    front = RestFrontEnd(plane, ServerSettings(Path(), rest_port=0, **settings), lane=lane)
    await front.start()
    try:
        yield front
    finally:
        await front.stop()


@contextlib.asynccontextmanager
async def client(front: RestFrontEnd) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{front.port}", timeout=20) as found:
        yield found


PAGE = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
"""What a browser asks for a page with."""


@contextlib.asynccontextmanager
async def connection(
    front: RestFrontEnd,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.005)


async def response_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    async with asyncio.timeout(60):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(head[0].split()[1]), headers, body


def post(document: Any, path: str = "/predict", head: str = "") -> bytes:
    body = json.dumps(document).encode()
    start = f"POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: {len(body)}\r\n{head}\r\n"
    return start.encode() + body


GET = b"GET /v2 HTTP/1.1\r\nhost: t\r\n\r\n"
V2 = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}


def chunked(document: Any) -> bytes:
    """A call that only the ordinary way takes."""
    body = json.dumps(document).encode()
    return (
        b"POST /predict HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n"
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    )


def numbered(number: int) -> dict[str, Any]:
    return {**CALL, "id": f"{number}"}


def binary(path: str = "/v2/models/echo/infer") -> bytes:
    parameters = {"binary_data_size": 8}
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    body = head + struct.pack("<2f", 5, 6)
    return (
        b"POST %b HTTP/1.1\r\nhost: t\r\ninference-header-content-length: %d\r\n"
        b"content-length: %d\r\n\r\n%b" % (path.encode(), len(head), len(body), body)
    )


Serving = Callable[..., contextlib.AbstractAsyncContextManager[RestFrontEnd]]
"""``serving``, with one of the two ways already chosen."""
