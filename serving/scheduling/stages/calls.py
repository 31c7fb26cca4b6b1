"""What a Python function may ask for while it runs: a model of its own servable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.errors import ServingError
from serving.tensor import Tensor


@dataclass(frozen=True)
class CallTerms:
    """How the requests that a run serves want to be treated, taken together.

    ``deadline`` (monotonic seconds) is the latest of theirs, ``None`` as soon as one has none;
    ``priority`` is that of the most urgent; ``id`` names them in logs.
    """

    deadline: float | None
    priority: int
    id: str


class ModelAnswer:
    """What became of each instance of a call, in their order.

    An instance's values may be views of shared memory until ``release`` is called, which happens
    exactly once and takes no time.
    """

    __slots__ = ("_release", "results")

    def __init__(
        self,
        results: Sequence[tuple[Tensor, ...] | ServingError],
        release: Callable[[], None],
    ) -> None:
        self.results = results
        self._release = release

    def release(self) -> None:
        """Give the values back."""
        self._release()


class ModelCalls(Protocol):
    """Who runs models for functions. Event loop only."""

    async def call(
        self,
        generation: int,
        model: str,
        subgraph: int,
        instances: Sequence[tuple[Tensor, ...]],
        terms: CallTerms,
    ) -> ModelAnswer:
        """Run instances through a model of this generation (its key in the definition).

        ``instances`` are views of shared memory; they hold until this returns or raises. A
        ServingError that is raised fails the whole call: the function sees its text. When nobody
        waits for the call any more it is cancelled, at any await: whatever it has claimed must be
        abandoned by then, and nothing may look at ``instances`` afterwards. A model calls nothing
        itself, so that calls are never nested.
        """
        ...
