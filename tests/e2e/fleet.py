"""A scheduler with real worker processes, in the test's own process and without front ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import uvloop

from serving.channel.arena import Arena
from serving.channel.messages import Load
from serving.devices import Where
from serving.errors import ServingError
from serving.master.places import Place, places_for
from serving.master.supervisor import Supervisor
from serving.request import Description, InferRequest, InferResponse
from serving.scheduling.line import Line, LineSettings
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.ticket import Ticket
from serving.tensor import BatchAxes, Signature, Tensor
from tests.server import until

T = TypeVar("T")
Answer = list[Tensor] | ServingError


@dataclass(frozen=True)
class Pause:
    """What happens between two steps of a test: turns of the loop, then a loop that is busy.

    Workers go on meanwhile: in a turn their answers are heard, while the loop is busy they pile
    up. (A timer would not do: uvloop's are whole milliseconds.)
    """

    turns: int = 0
    busy_ms: float = 0.0

    async def over(self) -> None:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if self.busy_ms:
            time.sleep(self.busy_ms / 1e3)


class Fleet:
    """Worker processes and whatever lines a test opens; everything runs on one loop."""

    def __init__(self, runner: asyncio.Runner, places: Sequence[Place]) -> None:
        self.runner = runner
        self.arena = Arena(1 << 28)
        self.scheduler = Scheduler(self.arena)
        self.arena._on_close = self.scheduler.forget_segment
        self.supervisor = Supervisor(self.scheduler, places=places, log_level="warning")
        self._models = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def open(
        self,
        path: Path,
        axes: BatchAxes,
        settings: LineSettings,
        *,
        static: bool = True,
        backend: str = "onnxruntime",
        kinds: Sequence[str] = ("cpu",),
    ) -> Line:
        """Load a model into every worker of some kinds of devices and open its line."""
        return self.run(self._open(path, axes, settings, static, backend, kinds))

    async def _open(
        self,
        path: Path,
        axes: BatchAxes,
        settings: LineSettings,
        static: bool,
        backend: str,
        kinds: Sequence[str],
    ) -> Line:
        self._models += 1
        model, most = self._models, settings.max_batch_size
        order = Load(model, path.stem, str(path), backend, axes.to_json(), static, most, 1, False)
        for kind in kinds:
            loaded = await self.supervisor.load(order, 60, lambda phase: None, Where(kind))
        signature = Signature.from_json(loaded.signature)
        description = Description(path.stem, 1, signature, axes, most, "onnxruntime_onnx")
        line = Line(model, description, settings, static, self.arena)
        self.scheduler.add_line(line)
        return line

    def ask(
        self,
        line: Line,
        requests: Sequence[Sequence[Tensor]],
        arrivals: Sequence[tuple[Pause, Pause]] = (),
    ) -> list[Answer]:
        """Send requests and copy out the answers, in order.

        ``arrivals[i]`` are the pauses before request i is claimed and before it is committed;
        requests beyond them come within the same turn of the loop.
        """
        return self.run(self._ask(line, requests, arrivals))

    async def _ask(
        self,
        line: Line,
        requests: Sequence[Sequence[Tensor]],
        arrivals: Sequence[tuple[Pause, Pause]],
    ) -> list[Answer]:
        # Side by side, as front ends do: an answer keeps its rows until somebody has read it.
        calls = []
        at_once = itertools.repeat((Pause(), Pause()))
        for inputs, (before, between) in zip(
            requests, itertools.chain(arrivals, at_once), strict=False
        ):
            await before.over()
            ticket = self.claim(line, inputs)
            calls.append(asyncio.create_task(self._finish(ticket, between)))
        return list(await asyncio.gather(*calls))

    async def _finish(self, ticket: Ticket, between: Pause) -> Answer:
        await between.over()
        self.scheduler.commit(ticket)
        return await self.answer(ticket)

    def claim(self, line: Line, inputs: Sequence[Tensor]) -> Ticket:
        request = InferRequest(line.description.servable, tuple(inputs))
        return self.scheduler.claim(line, request)

    async def answer(self, ticket: Ticket) -> Answer:
        """Wait for an answer and copy it out; its rows are given back."""
        async with asyncio.timeout(30):
            try:
                response = await ticket.answer
            except ServingError as error:
                return error
        copied = [copy(tensor) for tensor in response.outputs]
        response.release()
        return copied

    @contextlib.contextmanager
    def stopped_workers(self) -> Iterator[None]:
        """Keep every worker from running: what is sent to them waits until the block is left."""
        processes = [psutil.Process(worker.pid) for worker in self.supervisor.workers]
        for process in processes:
            process.suspend()
        try:
            stopped = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
            until(lambda: all(p.status() in stopped for p in processes), 5, "workers to stop")
            yield
        finally:
            for process in processes:
                process.resume()

    async def response(self, ticket: Ticket) -> InferResponse:
        """Wait for an answer and leave it where it lies."""
        async with asyncio.timeout(30):
            return await ticket.answer


def copy(tensor: Tensor) -> Tensor:
    array = None if tensor.array is None else np.array(tensor.array)
    items = None if tensor.items is None else list(tensor.items)
    return Tensor(tensor.name, tensor.dtype, tensor.shape, array, items)


@contextlib.contextmanager
def fleet(workers: int, places: Sequence[Place] | None = None) -> Iterator[Fleet]:
    """Start CPU workers, or those of the given places.

    Afterwards nothing of them is left and every segment has come back.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        running = Fleet(runner, places_for(workers) if places is None else places)

        async def start() -> None:
            await running.supervisor.start()

        async def stop() -> None:
            await running.supervisor.stop(10)

        try:
            runner.run(start())
            yield running
            assert running.scheduler.running == 0
            assert running.arena.used_bytes == 0
        finally:
            runner.run(stop())
            running.scheduler.close()
            running.arena.close()
