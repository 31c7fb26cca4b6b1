"""What the manager asks of the workers; the master's supervisor answers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from serving.channel.messages import Load, Loaded


class Fleet(Protocol):
    """The workers of this server."""

    async def try_out(self, order: Load, timeout_s: float) -> Loaded:
        """Load, warm and prove in a worker that serves nobody, and unload it again.

        Raises LoadError with the reason, also when that worker crashed, hung or ran out of
        memory; nothing that serves is touched.
        """
        ...

    async def load(self, order: Load, timeout_s: float, on_phase: Callable[[str], None]) -> Loaded:
        """Load into every serving worker, and into those that start later. Raises LoadError."""
        ...

    async def unload(self, model: int) -> None:
        """Unload from every worker; with the last of several their memory is given back."""
        ...
