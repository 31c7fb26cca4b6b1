"""One instance on its way through a method: claims what it can, lets go of what is used up."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, Protocol

from serving.definition import INPUTS, Node, Ref
from serving.errors import InternalError, ServingError
from serving.scheduling.pipeline.graph import Graph, Walk
from serving.scheduling.pipeline.port import Terms, Values
from serving.scheduling.pipeline.visit import Visit
from serving.tensor import Tensor

_log = logging.getLogger("serving.scheduler")


class Doors(Protocol):
    """Who runs the stages of a method."""

    def enter(self, method: str, index: int, node: Node, values: Values, terms: Terms) -> Visit:
        """Hand values to a stage; they hold until its answer is there or it is abandoned.

        ``index`` is the node's place in the method, from 0. Raises a ServingError.
        """
        ...


class Passage:
    """Made for one instance; ``start`` once. Event loop only.

    ``on_end`` is called once, unless it is abandoned before: with the ServingError that ended it,
    or with None. Then ``values`` hold what the method returns until ``release``.
    """

    __slots__ = ("_doors", "_given", "_graph", "_held", "_on_end", "_over", "_terms",
                 "_visits", "_walk")  # fmt: skip

    def __init__(
        self,
        graph: Graph,
        given: Values,
        terms: Terms,
        doors: Doors,
        on_end: Callable[[Passage, ServingError | None], None],
    ) -> None:
        self._graph = graph
        self._walk = Walk(graph)
        self._given = given
        self._terms = terms
        self._doors = doors
        self._on_end = on_end
        self._visits: dict[int, Visit] = {}  # asked and not answered
        self._held: dict[int, tuple[Visit, Values]] = {}  # answered, and still needed
        self._over = False

    def start(self) -> None:
        """Let the first stages go; a method without any ends at once."""
        self._go(self._graph.first)
        self._end_if_done()

    def values(self) -> Values:
        """Return what the method returns, in its order; only after a good end."""
        return tuple([self._value(ref) for ref in self._graph.method.returns])

    def abandon(self) -> None:
        """Nobody waits any more: withdraw what is outstanding, release what is there."""
        self._over = True
        visits, self._visits = self._visits, {}
        for visit in visits.values():
            visit.abandon()
        self.release()

    def release(self) -> None:
        """Let go of all values; later calls do nothing."""
        held, self._held = self._held, {}
        for visit, _ in held.values():
            visit.release()

    # -- inside --------------------------------------------------------------------------------

    def _go(self, nodes: Any) -> None:
        method = self._graph.method
        for index in nodes:
            if self._over:
                return
            node = method.nodes[index]
            values = tuple([self._value(ref) for ref in node.inputs])
            try:
                visit = self._doors.enter(method.name, index, node, values, self._terms)
            except ServingError as error:
                self._fail(error)
                return
            self._visits[index] = visit
            visit.answer.add_done_callback(functools.partial(self._answered, index))

    def _answered(self, index: int, answer: asyncio.Future[Any]) -> None:
        visit = self._visits.pop(index, None)
        if visit is None:
            return  # abandoned in the meantime, with all that it held
        error = _error(answer)
        if error is None:
            try:
                self._held[index] = (visit, visit.values())
            except ServingError as broken:
                visit.release()
                error = broken
        if error is not None:
            self._fail(error)
            return
        ready, spent = self._walk.done(index)
        self._go(ready)
        for node in spent:
            held = self._held.pop(node, None)
            if held is not None:
                held[0].release()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if not self._over and not self._walk.left:
            self._over = True
            self._on_end(self, None)

    def _fail(self, error: ServingError) -> None:
        self.abandon()
        self._on_end(self, error)

    def _value(self, ref: Ref) -> Tensor:
        values = self._given if ref.node == INPUTS else self._held[ref.node][1]
        return values[ref.output]


def _error(answer: asyncio.Future[Any]) -> ServingError | None:
    """Return why a stage did not answer, or None."""
    if answer.cancelled():
        return InternalError("a stage was withdrawn by the server")
    error = answer.exception()
    if error is None or isinstance(error, ServingError):
        return error
    _log.error("a stage broke", exc_info=error)
    return InternalError("the server failed on this request; its log says more")
