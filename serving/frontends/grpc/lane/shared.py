"""What all connections of one lane server share."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from serving.frontends.grpc.entry import ShutOut
from serving.frontends.grpc.lane.budget import Budget
from serving.frontends.grpc.lane.deadlines import Deadlines
from serving.frontends.grpc.lane.stream import Stream
from serving.frontends.grpc.lane.turns import Turns
from serving.frontends.grpc.methods import Methods

_RECEIVED_BYTES = 256 << 10
"""As much as is read at once: a large message should not take many reads."""


@dataclass(frozen=True)
class Shared:
    """``limit_bytes`` bounds one message; ``tasks`` are the calls that run as tasks.

    ``methods`` grows until the server starts. ``shut_out`` says who may not call.
    ``budget`` bounds unfinished requests, ``unread`` the answers that clients do not read.
    ``received`` is where a connection finds what it reads, until another one reads.
    """

    methods: Methods
    limit_bytes: int
    budget: Budget
    unread: Budget
    threads: Executor
    deadlines: Deadlines[Stream]
    shut_out: ShutOut | None = None
    turns: Turns = field(default_factory=Turns)
    received: memoryview = field(default_factory=lambda: memoryview(bytearray(_RECEIVED_BYTES)))
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
