"""What the manager asks of the workers; the master's supervisor and its stages answer it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serving.channel.messages import Load, Loaded
from serving.definition import Definition
from serving.devices import Where
from serving.repository.settings import ServableSettings

CPU = Where()


class Fleet(Protocol):
    """The workers of this server."""

    async def try_out(self, order: Load, timeout_s: float, where: Where = CPU) -> Loaded:
        """Load, warm and prove in a worker that serves nobody, on one such device; unload it again.

        Raises LoadError with the reason, also when that worker crashed, hung or ran out of
        memory; nothing that serves is touched.
        """
        ...

    async def load(
        self,
        order: Load,
        timeout_s: float,
        on_phase: Callable[[str], None],
        where: Where = CPU,
    ) -> Loaded:
        """Load into every serving worker there, and into those that start later.

        Raises LoadError.
        """
        ...

    async def unload(self, model: int, where: Where | None = None) -> None:
        """Unload from every worker (there); with the last of several their memory is given back."""
        ...


@dataclass(frozen=True)
class StageOrder:
    """The Python side of one generation: whose ``servable_config.py``, and what it registers.

    ``folder`` holds the file; ``timeout_s`` bounds the start of a worker. ``intact`` says whether
    the files still are what the generation was made from: a worker that is started later must not
    run other code than its fellows.
    """

    generation: int
    servable: str
    version: int
    folder: Path
    definition: Definition
    settings: ServableSettings
    timeout_s: float
    intact: Callable[[], bool]


class StageFleet(Protocol):
    """The workers that run the Python functions of servables, each for one generation."""

    async def start(self, order: StageOrder) -> None:
        """Start a generation's workers; raises LoadError with the reason, and nothing is left."""
        ...

    async def stop(self, generation: int) -> None:
        """End a generation's workers, if it has some; nothing waits for them any more."""
        ...
