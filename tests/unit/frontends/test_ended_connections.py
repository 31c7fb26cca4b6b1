"""A connection that has ended goes at once: nothing of it waits for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from serving.config import ServerSettings
from serving.frontends.grpc.server import GrpcFrontEnd
from serving.frontends.rest.server import RestFrontEnd
from serving.request import Description
from serving.tensor import FP32, BatchAxes, Signature, TensorSpec
from tests.certificates import Authority
from tests.doubles.plane import StubPlane
from tests.unit.frontends.grpc_lane import raw
from tests.unit.frontends.grpc_lane.raw import RawClient, frame

_LARGE = 300_000
_SPECS = (TensorSpec("x", FP32, ("n",)),)
_KNOWN = Description(
    "m", 1, Signature(_SPECS, _SPECS), BatchAxes(True, "asserted", (0,), (0,)), 8, "stub"
)


def _post(path: str, body: bytes, length: int | None = None, *fields: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: h", *fields, f"content-length: {length or len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


_SMALL = _post("/predict", json.dumps({"servable": "m", "instances": [{"x": 1.5}]}).encode())
_HEAD = json.dumps(
    {
        "inputs": [
            {
                "name": "x", "datatype": "FP32", "shape": [_LARGE // 4],
                "parameters": {"binary_data_size": _LARGE},
            }
        ],
        "parameters": {"binary_data_output": True},
    }
).encode()  # fmt: skip
_BINARY = _post(
    "/v2/models/m/infer",
    _HEAD + bytes(_LARGE),
    None,
    f"inference-header-content-length: {len(_HEAD)}",
)

REST: dict[str, tuple[bytes, int]] = {
    "small calls": (_SMALL, 3),
    "pipelined calls": (_SMALL * 5, 2),
    "a large body": (_BINARY, 2),
    "half a large body": (_BINARY[: len(_BINARY) // 2], 0),
    "half a head": (_SMALL[:20], 0),
    "no HTTP": (b"what\r\n\r\n", 1),
    "a page": (b"GET /v2/health/live HTTP/1.1\r\nhost: h\r\n\r\n", 2),
}
"""What is sent, and how often it is answered with as much as one read brings, at least."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _settings(authority: Authority, folder: Path, *, tls: bool) -> ServerSettings:
    own = authority.sign("own") if tls else None
    return ServerSettings(
        folder,
        rest_port=0,
        grpc_port=0,
        tls_cert=None if own is None else own.certificate,
        tls_key=None if own is None else own.key,
    )


def _trusting(authority: Authority, tls: bool, *protocols: str) -> ssl.SSLContext | None:
    if not tls:
        return None
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


async def _until(there: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(20):
        while not there():
            await asyncio.sleep(0.005)
    assert there(), what


async def _gone(connections: Callable[[], Any], leave: Callable[[], None]) -> None:
    """Leave, and wait until nothing is left of what the server made for it."""
    await _until(lambda: len(connections()) == 1, "the connection")
    made = [weakref.ref(connection) for connection in connections()]
    leave()
    await _until(lambda: not any(one() for one in made), "its end")


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("hard", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("what", REST)
def test_ended_rest_connection_leaves_nothing(
    authority: Authority, tmp_path: Path, what: str, tls: bool, hard: bool
) -> None:
    async def run() -> None:
        front = RestFrontEnd(StubPlane(_KNOWN), _settings(authority, tmp_path, tls=tls))
        await front.start()
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", front.port, ssl=_trusting(authority, tls)
            )
            data, answers = REST[what]
            writer.write(data)
            for turn in range(answers):
                assert (await reader.read(1 << 20)).startswith(b"HTTP/1.1 ") or turn
                if turn + 1 < answers:
                    writer.write(data)
            leave = writer.transport.abort if hard else writer.close
            await _gone(lambda: front._state.connections, leave)
        finally:
            await front.stop()

    uvloop.run(run())


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("hard", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("what", ["calls", "an open stream", "half a message", "no preface"])
def test_ended_grpc_connection_leaves_nothing(
    authority: Authority, tmp_path: Path, what: str, tls: bool, hard: bool
) -> None:
    async def run() -> None:
        front = GrpcFrontEnd(StubPlane(_KNOWN), _settings(authority, tmp_path, tls=tls))
        await front.start()
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", front.port, ssl=_trusting(authority, tls, "h2")
            )
            client = RawClient(reader, writer)
            if what == "no preface":
                writer.write(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
                assert await reader.read(1 << 16)
            else:
                await _talk(client, what)
            leave = writer.transport.abort if hard else writer.close
            await _gone(lambda: front._server._connections, leave)  # type: ignore[union-attr]
        finally:
            await front.stop()

    uvloop.run(run())


async def _talk(client: RawClient, what: str) -> None:
    client.send(raw.PREFACE, raw.settings(), frame(raw.SETTINGS, raw.ACK, 0))
    client.call(1)
    assert (await client.answer(1)).fields["grpc-status"] == "0"
    if what == "an open stream":
        client.open(3, raw.fields(raw.STREAM))
        client.send(frame(raw.DATA, 0, 3, raw.message(b"\xff")))
        await client.until(raw.DATA, 3)
    elif what == "half a message":
        client.open(3, raw.fields(raw.INFER))
        client.send(frame(raw.DATA, 0, 3, raw.message(bytes(_LARGE))[:16_000]))
        client.call(5)
        await client.answer(5)
