"""What all connections of one lane server share."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from serving.frontends.grpc.lane.budget import Budget
from serving.frontends.grpc.lane.deadlines import Deadlines
from serving.frontends.grpc.lane.stream import Stream
from serving.frontends.grpc.methods import Methods


@dataclass(frozen=True)
class Shared:
    """``limit_bytes`` bounds one message; ``tasks`` are the calls that run as tasks.

    ``methods`` grows until the server starts.
    ``budget`` bounds unfinished requests, ``unread`` the answers that clients do not read.
    """

    methods: Methods
    limit_bytes: int
    budget: Budget
    unread: Budget
    threads: Executor
    deadlines: Deadlines[Stream]
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
