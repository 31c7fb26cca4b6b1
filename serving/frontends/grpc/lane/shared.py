"""What all connections of one lane server share."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from serving.frontends.grpc.lane.budget import Budget
from serving.frontends.grpc.lane.deadlines import Deadlines
from serving.frontends.grpc.lane.routes import Routes
from serving.frontends.grpc.lane.stream import Stream


@dataclass(frozen=True)
class Shared:
    """``limit_bytes`` bounds one message; ``tasks`` are the calls that run as tasks."""

    routes: Routes
    limit_bytes: int
    budget: Budget
    threads: Executor
    deadlines: Deadlines[Stream]
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
