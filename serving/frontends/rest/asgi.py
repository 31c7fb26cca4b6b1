"""The ASGI types that this front end uses, and how it sends a response."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serving.frontends.rest.wire import Reply

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Fields = tuple[tuple[bytes, bytes], ...]
"""Header fields, added behind those of the reply."""

_LINGER_S = 2.0
_LINGER_BYTES = 64 << 20


class ClientGone(Exception):
    """The client closed the connection: nobody waits for the answer."""


async def send_response(send: Send, reply: Reply, extra: Fields = ()) -> None:
    """Send a complete response."""
    await send(_start(reply, extra))
    await send({"type": "http.response.body", "body": reply.body})


async def send_before_reading(
    receive: Receive, send: Send, reply: Reply, extra: Fields = ()
) -> None:
    """Send a response while the request's body is still coming in, then close.

    Closing at once would reset the connection, and a client that is still writing would lose
    the response. So what it sends is thrown away for a moment before the response is ended.
    """
    await send(_start(reply, (*extra, (b"connection", b"close"))))
    await send({"type": "http.response.body", "body": reply.body, "more_body": True})
    dropped = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while dropped < _LINGER_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    break
                dropped += len(message.get("body", b""))
    await send({"type": "http.response.body", "body": b""})


def _start(reply: Reply, extra: Fields) -> Message:
    return {
        "type": "http.response.start",
        "status": reply.status,
        "headers": [
            (b"content-type", reply.content_type),
            (b"content-length", b"%d" % len(reply.body)),
            *reply.headers,
            *extra,
        ],
    }
