"""A front-end process as the master sees it: started, serving, lost, reaped."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serving.channel.link import pair
from serving.config import ServerSettings
from serving.errors import Unavailable
from serving.gateway.messages import (
    PROTOCOL,
    Begin,
    Drain,
    Drained,
    Hello,
    Message,
    Opened,
    Ping,
    Pong,
    Stop,
)
from serving.gateway.pipe import Pipe
from serving.gateway.words import settings_to_json
from serving.lifecycle.gate import Tokens
from serving.master.child import Child
from serving.master.desk import Desk, Send
from serving.repository.interpreter import command, environment
from serving.scheduling.suspicion import Loss

_log = logging.getLogger("serving.gateway")


@dataclass(frozen=True)
class GatewaySpec:
    """What every front-end process is started with: descriptors, settings, the secret."""

    settings: ServerSettings
    tokens: Tokens
    rest: int
    grpc: Sequence[int]
    rest_shares: int
    grpc_shares: int

    @property
    def descriptors(self) -> list[int]:
        """All that are passed on."""
        return [self.rest, *self.grpc, self.rest_shares, self.grpc_shares]


class Gateway:
    """Owns the process, its pipe and its desk. Event loop only; ``watchdog.Watched``.

    Made where there are descriptors for its pipe; else Unavailable is raised.
    ``informed`` says that it is told of changes, ``served`` that its start went well. ``on_lost``
    is called once, when it is dead or dying, ``on_reaped`` when it is gone for certain.
    """

    slots: Sequence[object] = ()

    def __init__(
        self,
        place: int,
        spec: GatewaySpec,
        make_desk: Callable[[Send], Desk],
        on_lost: Callable[[Gateway], None],
        on_reaped: Callable[[Gateway], None],
    ) -> None:
        self.place = place
        self.lost = False
        self.awaited = False
        self.stopping = False
        self.informed = False
        self.served = False
        self.why = ""
        self._spec = spec
        self._on_lost = on_lost
        self._on_reaped = on_reaped
        self._child = Child(name_of(place), self._exited)
        try:
            ours, self._theirs = pair(socket.SOCK_STREAM)
        except OSError as error:
            raise _not_started(error) from None
        self._pipe = Pipe(ours, self._heard, self._hung_up)
        self.desk = make_desk(self._pipe.send)
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[str] = loop.create_future()
        self._hello: asyncio.Future[bool] = loop.create_future()
        self.drained = asyncio.Event()
        self._pings = 0
        self._pongs: dict[int, asyncio.Future[None]] = {}

    @property
    def name(self) -> str:
        """Its name in logs and metrics."""
        return self._child.name

    @property
    def pid(self) -> int:
        """Its process."""
        return self._child.pid

    @property
    def gone(self) -> asyncio.Event:
        """Set once its process has been reaped."""
        return self._child.gone

    @property
    def loading(self) -> bool:
        """Whether it is still being started, which may take it long to answer."""
        return not self.opened.done()

    @property
    def serves(self) -> bool:
        """Whether it takes requests."""
        return not self.lost and self.opened.done()

    async def start(self, timeout_s: float, tell: Callable[[Gateway], None]) -> None:
        """Start the process and wait until it serves; ``tell`` is to tell it what is served.

        Raises Unavailable when it does not come up; then it is gone.
        """
        try:
            self._launch()
            async with asyncio.timeout(timeout_s):
                if not await self._hello:
                    raise Unavailable("a front end of another build was started")
                spec = self._spec
                self._pipe.send(Begin(settings_to_json(spec.settings), *spec.tokens))
                self.informed = True
                tell(self)
                problem = await self.opened
            if problem or self.lost:
                raise Unavailable(f"a front end could not begin: {problem or self.why}")
            self.served = True
        except BaseException as error:
            self.stopping = True
            self._child.kill()
            if self.pid:
                await self.gone.wait()
            self._lose()
            if isinstance(error, TimeoutError):
                raise Unavailable(f"a front end did not come up for {timeout_s:g} s") from None
            raise

    def send(self, message: Message) -> None:
        """Tell it something."""
        self._pipe.send(message)

    def flush(self) -> None:
        """Send what it was told now, not at the end of this turn of the loop."""
        self._pipe.flush()

    async def reached(self) -> None:
        """Return once it has heard all that was said until now, or is lost."""
        if self.lost:
            return
        self._pings += 1
        answered = self._pongs[self._pings] = asyncio.get_running_loop().create_future()
        self._pipe.send(Ping(self._pings))
        await answered

    def drain(self, deadline_s: float) -> None:
        """Have it accept nothing more and answer what it has; ``drained`` is set then."""
        self.stopping = True
        self._pipe.send(Drain(deadline_s))

    def stop(self) -> None:
        """Have it leave."""
        self.stopping = True
        self._pipe.send(Stop())

    # -- watchdog.Watched ----------------------------------------------------------------------

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._pings += 1
        self.awaited = True
        self._pipe.send(Ping(self._pings))

    def kill(self, loss: Loss | None = None) -> None:
        """End it now, with the reason."""
        self.why = "" if loss is None else loss.how
        self._child.kill()
        self._lose()

    # -- inside --------------------------------------------------------------------------------

    def _launch(self) -> None:
        passed = [self._theirs.fileno(), *self._spec.descriptors]
        try:
            self._child.start(self._command(), environment(), passed)
        except OSError as error:
            raise _not_started(error) from None
        finally:
            self._theirs.close()
        self._pipe.start()

    def _command(self) -> list[str]:
        spec = self._spec
        words = [
            *command(sys.executable, "serving.gateway"),
            "--master", str(os.getpid()),
            "--name", self.name,
            "--log-level", spec.settings.log_level,
            "--link-fd", str(self._theirs.fileno()),
            "--rest-fd", str(spec.rest),
            "--rest-shares-fd", str(spec.rest_shares),
            "--grpc-shares-fd", str(spec.grpc_shares),
            "--place", str(self.place),
            "--places", str(spec.settings.frontends),
        ]  # fmt: skip
        for fd in spec.grpc:
            words += ["--grpc-fd", str(fd)]
        return words

    def _heard(self, message: Message) -> None:
        self.awaited = False
        match message:
            case Pong():
                answered = self._pongs.pop(message.serial, None)
                if answered is not None and not answered.done():
                    answered.set_result(None)
            case Hello():
                if not self._hello.done():
                    self._hello.set_result(message.protocol == PROTOCOL)
            case Opened():
                if not self.opened.done():
                    self.opened.set_result(message.error)
            case Drained():
                self.drained.set()
            case _:
                self.desk.heard(message)

    def _hung_up(self) -> None:
        """Its end of the pipe is closed: it is dying, or must."""
        self._child.kill()
        self._lose()

    def _exited(self) -> None:
        how = self._child.ending()
        self.why = self.why or how
        error = Unavailable(f"a front end ended before it served: {how}")
        for waiting in (self._hello, self.opened):
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # perhaps nobody waits
        self._lose()
        self.desk.take_back()
        self._on_reaped(self)

    def _lose(self) -> None:
        if self.lost:
            return
        self.lost = True
        self.drained.set()
        for answered in self._pongs.values():
            if not answered.done():
                answered.set_result(None)
        self._pongs.clear()
        self._pipe.close()
        self.desk.abandon_all()
        self._on_lost(self)


def name_of(place: int) -> str:
    """Return the name of the front end in a place."""
    return f"front-{place}"


def _not_started(error: OSError) -> Unavailable:
    return Unavailable(f"a front end could not be started: {os.strerror(error.errno or 0)}")
