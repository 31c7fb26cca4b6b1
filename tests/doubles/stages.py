"""Real stage workers on servables that a test writes, with a double for the models they call."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from serving.channel.arena import Arena
from serving.definition import BUILTINS, Definition
from serving.errors import ServingError
from serving.master.stage_fleet import StageFleet, StageSpec
from serving.master.stage_worker import StageWorker
from serving.scheduling.stages.calls import CallTerms, ModelAnswer
from serving.scheduling.stages.scheduler import StageScheduler
from serving.scheduling.stages.ticket import StagePlace, StageTicket
from serving.scheduling.suspicion import RunTerms
from serving.tensor import BYTES, TEXT, Tensor

GENERATION = 7

_DESCRIBE = """
import json, sys
from pathlib import Path
from serving.register import loading
folder, name = sys.argv[1:]
print(json.dumps(loading.load(Path(folder), name).definition.to_json()))
"""


def write_servable(folder: Path, text: str) -> Path:
    """Write a servable's folder with this ``servable_config.py``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "servable_config.py").write_text(text)
    return folder


@functools.cache
def describe(folder: Path) -> Definition:
    """Return what a servable registered when it was first asked for."""
    return _described(folder.name, (folder / "servable_config.py").read_text())


@functools.cache
def _described(name: str, text: str) -> Definition:
    """Run a servable's code in a process of its own; the same text registers the same."""
    with tempfile.TemporaryDirectory() as home:
        folder = write_servable(Path(home) / name, text)
        told = subprocess.run(
            [sys.executable, "-c", _DESCRIBE, str(folder), name],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    return Definition.from_json(json.loads(told.stdout.splitlines()[-1]))


@dataclass
class StubModels:
    """Stands for the models: ``y = x * 2`` in whatever dtype, after ``hold`` is set.

    ``refuse`` is raised instead of an answer; ``seen`` are the calls, ``released`` and
    ``cancelled`` count how they ended.
    """

    hold: asyncio.Event = field(default_factory=asyncio.Event)
    refuse: ServingError | None = None
    seen: list[tuple[int, str, int, int, CallTerms]] = field(default_factory=list)
    released: int = 0
    cancelled: int = 0

    def __post_init__(self) -> None:
        self.hold.set()

    async def call(
        self,
        generation: int,
        model: str,
        subgraph: int,
        instances: Sequence[tuple[Tensor, ...]],
        terms: CallTerms,
    ) -> ModelAnswer:
        self.seen.append((generation, model, subgraph, len(instances), terms))
        try:
            await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.refuse is not None:
            raise self.refuse
        doubled = [
            tuple(Tensor.of("", t.array * 2) for t in i if t.array is not None) for i in instances
        ]
        return ModelAnswer(doubled, self._release)

    def _release(self) -> None:
        self.released += 1


@dataclass
class Stages:
    """A scheduler and a fleet for one servable."""

    arena: Arena
    scheduler: StageScheduler
    fleet: StageFleet
    models: StubModels
    spec: StageSpec

    def claim(
        self,
        function: str,
        *values: object,
        method: str = "predict",
        index: int = 1,
        deadline_s: float | None = None,
        priority: int = 0,
        id: str = "",
    ) -> StageTicket:
        deadline = None if deadline_s is None else time.monotonic() + deadline_s
        return self.scheduler.claim(
            self.spec.generation, function, tuple(map(value, values)),
            deadline=deadline, priority=priority, id=id, where=StagePlace(method, index),
        )  # fmt: skip

    async def ask(self, function: str, *values: object, **terms: object) -> list[object]:
        """Return what the function gives, as Python values, and release it."""
        return await answer_of(self.claim(function, *values, **terms))  # type: ignore[arg-type]

    @property
    def workers(self) -> list[StageWorker]:
        return list(self.fleet.workers(self.spec.generation))


def value(given: object) -> Tensor:
    if isinstance(given, Tensor):
        return given
    if isinstance(given, str):
        return Tensor("", TEXT, (), items=[given.encode()])
    if isinstance(given, bytes):
        return Tensor("", BYTES, (), items=[given])
    return Tensor.of("", np.asarray(given))


def plain(tensor: Tensor) -> object:
    if tensor.array is not None:
        return tensor.array.tolist()
    items = [i.decode() if tensor.dtype is TEXT else i for i in tensor.items or ()]
    return items[0] if tensor.shape == () else items


async def answer_of(ticket: StageTicket, timeout_s: float = 20.0) -> list[object]:
    async with asyncio.timeout(timeout_s):
        answer = await ticket.answer
    values = [plain(tensor) for tensor in answer.values]
    answer.release()
    return values


async def until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit, f"waited in vain for {what}"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def stages(
    folder: Path,
    *,
    workers: int = 1,
    max_waiting: int = 100,
    terms: RunTerms | None = None,
    silence_s: float = 10.0,
    memory_bytes: int = 1 << 28,
    **spec: object,
) -> AsyncIterator[Stages]:
    """Serve a servable's functions; all its memory and processes have to be back at the end."""
    definition = describe(folder)
    arena = Arena(memory_bytes, lambda segment: scheduler.forget_segment(segment))
    scheduler = StageScheduler(arena)
    models = StubModels()
    scheduler.calls = models
    fleet = StageFleet(scheduler, log_level="debug", silence_s=silence_s)
    functions = [*definition.functions, *BUILTINS.values()]
    scheduler.open(GENERATION, folder.name, functions, max_waiting, terms)
    made = StageSpec(GENERATION, folder.name, folder, definition.digest, workers=workers)
    made = replace(made, **spec)  # type: ignore[arg-type]
    try:
        await fleet.start(made)
        yield Stages(arena, scheduler, fleet, models, made)
        await scheduler.close(GENERATION, 5.0)
    finally:
        await fleet.stop_all(5.0)
        await scheduler.close(GENERATION, 0.0)
    assert not scheduler.flights
    await until(lambda: arena.used_bytes == 0, "the memory of all runs", 2.0)
    arena.close()
