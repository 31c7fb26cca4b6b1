"""Both ends of a front end's stream in one process: what it has, and what the master has of it."""

from __future__ import annotations

import socket
from typing import Any

from serving.channel.arena import Arena
from serving.channel.link import pair
from serving.frontends.shared_memory.regions import Registry
from serving.gateway.messages import Message
from serving.gateway.pipe import Pipe
from serving.gateway.plane import GatewayPlane
from serving.lifecycle.gate import Gate
from serving.master.desk import Desk


class BothEnds:
    """A desk over any plane of the master's, and the front end's plane that talks to it."""

    def __init__(
        self,
        master: Any,
        arena: Arena,
        regions: Registry | None = None,
        shared_bytes: int | None = None,
    ) -> None:
        self.arena, self.trays = arena, Arena(arena.budget_bytes)
        ours, theirs = pair(socket.SOCK_STREAM)
        self.closed: list[str] = []
        self.pipe = Pipe(ours, self._to_desk, lambda: self.closed.append("master"))
        self.far = Pipe(theirs, self._to_plane, lambda: self.closed.append("front end"))

        async def caught_up() -> None:
            return None

        self.desk = Desk(master, self.arena, self.trays, self.pipe.send, caught_up, regions)
        self.plane = GatewayPlane(self.far, Gate("none"), shared_bytes)
        self.pipe.start()
        self.far.start()

    def _to_desk(self, message: Message) -> None:
        self.desk.heard(message)

    def _to_plane(self, message: Message) -> None:
        self.plane.heard(message)

    def close(self) -> None:
        self.pipe.close()
        self.far.close()
        self.arena.close()
        self.trays.close()
