"""The thread that a server lives in: from its first part to its stop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import uvloop

from serving.api.embedded import Embedded
from serving.config import ServerSettings

T = TypeVar("T")


class Ended(Exception):
    """The server was stopped before what it was asked for was done."""


class Life:
    """Owns the event loop and its thread; every method may be called from any thread.

    ``ask_stop`` may be called from a signal handler.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked: asyncio.Event | None = None
        self._asked_early = False
        self._doing: set[asyncio.Future[Any]] = set()
        self._up: concurrent.futures.Future[Embedded] = concurrent.futures.Future()
        self._over: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, name="serving-master")

    @property
    def over(self) -> bool:
        """Whether everything is let go of."""
        return self._over.done()

    def start(self) -> None:
        """Start the thread; raises what kept the server's parts from being made."""
        self._thread.start()
        try:
            self._up.result()
        except BaseException:
            self.ask_stop()
            self._thread.join()
            raise

    def do(self, action: Callable[[Embedded], Awaitable[T]]) -> T:
        """Have something done on the loop and wait for it. Raises Ended, and what it raises."""
        embedded = self._up.result()
        doing = self._guarded(action, embedded)
        try:
            assert self._loop is not None
            future = asyncio.run_coroutine_threadsafe(doing, self._loop)
        except RuntimeError:  # the loop is closed
            doing.close()
            raise Ended from None
        either: list[concurrent.futures.Future[Any]] = [future, self._over]
        concurrent.futures.wait(either, return_when=concurrent.futures.FIRST_COMPLETED)
        if not future.done():
            raise Ended
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise Ended from None

    def ask_stop(self) -> None:
        """Begin to stop; returns at once."""
        self._asked_early = True
        loop, asked = self._loop, self._stop_asked
        if loop is None or asked is None:
            return
        try:
            loop.call_soon_threadsafe(asked.set)
        except RuntimeError:
            return  # the loop is closed: it has stopped

    def stop(self) -> None:
        """Stop, and return when nothing of the server is left."""
        self.ask_stop()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def wait(self) -> None:
        """Wait for the end of it."""
        self._thread.join()

    async def _guarded(self, action: Callable[[Embedded], Awaitable[T]], embedded: Embedded) -> T:
        """Carry an action out, unless a stop is asked for first."""
        assert self._stop_asked is not None
        doing = asyncio.ensure_future(action(embedded))
        self._doing.add(doing)
        doing.add_done_callback(self._doing.discard)
        stopping = asyncio.ensure_future(self._stop_asked.wait())
        try:
            await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                doing.cancel()
                await asyncio.wait({doing})
            if doing.cancelled():
                raise Ended
            return doing.result()
        finally:
            stopping.cancel()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._live())
        except BaseException as error:
            if not self._up.done():
                self._up.set_exception(error)
            else:
                raise
        finally:
            self._over.set_result(None)

    async def _live(self) -> None:
        self._stop_asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._asked_early:
            self._stop_asked.set()
        embedded = Embedded(self._settings)
        self._up.set_result(embedded)
        try:
            await self._stop_asked.wait()
        finally:
            # What is being started gives up first: parts are stopped that nobody still starts.
            for doing in list(self._doing):
                doing.cancel()
            await asyncio.gather(*self._doing, return_exceptions=True)
            await embedded.stop()
