"""The ASGI types that this front end uses, and how it sends a response."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_LINGER_S = 2.0
_LINGER_BYTES = 64 << 20


class ClientGone(Exception):
    """The client closed the connection: nobody waits for the answer."""


async def send_response(
    send: Send,
    status: int,
    content_type: bytes,
    body: bytes,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Send a complete response."""
    await send(_start(status, content_type, len(body), headers))
    await send({"type": "http.response.body", "body": body})


async def send_before_reading(
    receive: Receive,
    send: Send,
    status: int,
    content_type: bytes,
    body: bytes,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Send a response while the request's body is still coming in, then close.

    Closing at once would reset the connection, and a client that is still writing would lose
    the response. So what it sends is thrown away for a moment before the response is ended.
    """
    closing = [*headers, (b"connection", b"close")]
    await send(_start(status, content_type, len(body), closing))
    await send({"type": "http.response.body", "body": body, "more_body": True})
    dropped = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while dropped < _LINGER_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    break
                dropped += len(message.get("body", b""))
    await send({"type": "http.response.body", "body": b""})


def _start(
    status: int, content_type: bytes, length: int, headers: Iterable[tuple[bytes, bytes]]
) -> Message:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (b"content-type", content_type),
            (b"content-length", b"%d" % length),
            *headers,
        ],
    }
