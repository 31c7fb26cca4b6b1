"""One HTTP/2 stream, which is one gRPC call: what has come of it, and what is still to go.

States (RFC 9113, section 5.1): a stream is here while it is open or half-closed. ``heard_all``
tells that the client has ended its side, ``ending`` that our last frame is sent or stands in the
outbox; with both, and an empty outbox, the connection lets it go.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from serving.frontends.grpc.lane.messages import Inbox
from serving.frontends.grpc.lane.request_head import Head
from serving.frontends.grpc.lane.settings import STREAM_WINDOW
from serving.frontends.grpc.methods import Method


class Running(Protocol):
    """A call under way, as its connection sees it."""

    def feed(self) -> None:
        """Look at the inbox: messages came, or their end."""
        ...

    def sent(self) -> None:
        """Go on: what was to be sent is on its way."""
        ...

    def abandon(self) -> None:
        """Stop: nobody waits any more."""
        ...


class Owner(Protocol):
    """What a stream belongs to."""

    def expire(self, stream: Stream) -> None:
        """End the call, whose deadline has passed."""
        ...


class Stream:
    """Made by a connection for each call; event loop only.

    ``window`` and ``their_window`` are what we may send and what the client may; ``uncredited``
    bytes came and were not yet given back to their window; ``counted`` bytes are taken from the
    server's budget. ``outbox`` holds header blocks as ``bytes``, and data as ``memoryview``.
    """

    __slots__ = (
        "call",
        "counted",
        "deadline",
        "ending",
        "head",
        "heard_all",
        "id",
        "inbox",
        "method",
        "opened",
        "outbox",
        "owner",
        "received",
        "seen",
        "seen_at",
        "sent",
        "slot",
        "their_window",
        "uncredited",
        "window",
    )  # fmt: skip

    def __init__(self, owner: Owner, stream_id: int, head: Head, window: int) -> None:
        self.owner = owner
        self.id = stream_id
        self.head = head
        self.window = window
        self.their_window = STREAM_WINDOW
        self.uncredited = 0
        self.received = 0
        self.counted = 0
        self.heard_all = False
        self.opened = False
        self.ending = False
        self.method: Method | None = None
        self.inbox: Inbox | None = None
        self.call: Running | None = None
        self.outbox: deque[bytes | memoryview] | None = None
        self.sent = 0
        self.deadline: float | None = None
        self.slot = 0
        # For the sweep: what it saw last, and when that changed.
        self.seen = -1
        self.seen_at = 0.0

    def silent_s(self, now: float) -> float:
        """Return for how long it has waited for its client, as often as this is asked."""
        waits = self.outbox or not (self.heard_all or self.ending or self.call)
        seen = self.received + self.sent
        if not waits or seen != self.seen:
            self.seen, self.seen_at = seen, now
        return now - self.seen_at
