"""The ASGI types that this front end uses, and how it sends a response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serving.frontends.rest.wire import Reply

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Fields = tuple[tuple[bytes, bytes], ...]
"""Header fields, added behind those of the reply."""


class ClientGone(Exception):
    """The client closed the connection: nobody waits for the answer."""


async def send_response(send: Send, reply: Reply, extra: Fields = ()) -> None:
    """Send a complete response."""
    await send(_start(reply, extra))
    await send({"type": "http.response.body", "body": reply.body})


async def send_and_close(send: Send, reply: Reply, extra: Fields = ()) -> None:
    """Send a response to a request that is not read to its end, and close.

    The connection sees to it that a client which is still writing can read the response.
    """
    await send_response(send, reply, (*extra, (b"connection", b"close")))


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
