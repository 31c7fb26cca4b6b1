"""The only thing front ends call: a narrow, message-shaped interface.

``serving.master.plane`` implements it in process; an implementation that talks to another
process can take its place without a front end noticing.
"""

from __future__ import annotations

from asyncio import Future
from typing import Any, Protocol, runtime_checkable

from serving.errors import ServingError
from serving.repository.override import Override
from serving.request import (
    Description,
    InferRequest,
    InferResponse,
    Listener,
    RowsListener,
    VersionName,
)
from serving.statistics import ServerStatistics


class Claim(Protocol):
    """A place taken for one request: its rows are written, nothing has been run yet."""

    @property
    def answer(self) -> Future[InferResponse]:
        """Resolves to the response, or raises a ``ServingError``."""
        ...

    def tell(self, listener: Listener) -> None:
        """Call ``listener`` once with the outcome, which then does not go to ``answer``.

        On the event loop, never before this returns, and not after ``abandon``, except for what
        was on its way by then. The listener releases the response, and raises nothing.
        """
        ...


class RowsClaim(Protocol):
    """Places taken for callers who came together; see ``TakesRows``."""


@runtime_checkable
class TakesRows(Protocol):
    """A data plane that takes small requests by the dozen: a step that it may leave out."""

    def take_rows(
        self, request: InferRequest, unit: int, listener: RowsListener
    ) -> RowsClaim | None:
        """Take a request whose rows are those of several callers, ``unit`` each, and let it run.

        All inputs have the rows on axis 0, of a method instances; there is no deadline and no id.
        What a caller brings is counted, bounded, repeated and withdrawn as a request by itself.
        ``listener`` hears of every caller once: of many at a time while all goes well; on the event
        loop, never before this returns, and not of one who was withdrawn. It releases the
        responses. None if the callers must be claimed one by one, which also finds the words for
        what is wrong.

        Raises InvalidRequest and NotFound.
        """
        ...

    def abandon_row(self, claim: RowsClaim, caller: int) -> None:
        """Withdraw one of them; of an answer that is under way ``listener`` still hears."""
        ...


class RepositoryControl(Protocol):
    """Loads and unloads servables on request."""

    async def load(self, servable: str, override: Override) -> None:
        """Load a servable, or load it anew; returns once it serves.

        Raises a ``ServingError``: NotFound, LoadError with the reason, InvalidRequest.
        """
        ...

    async def unload(self, servable: str) -> None:
        """Take a servable down; returns once its requests are answered. Raises NotFound."""
        ...


class DataPlane(Protocol):
    """Claim, commit, abandon, answer; metadata, readiness, statistics."""

    def claim(self, request: InferRequest) -> Claim:
        """Check the request against the signature and take a place for it.

        Raises a ``ServingError``: NotFound, InvalidRequest, Overloaded, Unavailable.
        """
        ...

    def commit(self, claim: Claim) -> None:
        """Let the claimed rows run; ``claim.answer`` resolves when they have."""
        ...

    def abandon(self, claim: Claim) -> None:
        """Withdraw: rows that have not run will not, an answer is thrown away."""
        ...

    def describe(
        self, servable: str | None, version: VersionName | None = None, method: str | None = None
    ) -> Description:
        """Describe a method of a servable; ``None`` means the only one there is.

        A servable without methods of its own has one, called ``predict``. Of several methods,
        the one called ``predict`` may be left out. Raises NotFound, whose code is
        ``unknown_method`` where it is the method that is not there, or is not said; Unavailable.
        """
        ...

    def methods(self, servable: str, version: VersionName | None = None) -> tuple[str, ...]:
        """Return the names of the methods that a version offers; none for a model itself.

        Raises NotFound and Unavailable.
        """
        ...

    async def servables(self) -> list[dict[str, Any]]:
        """List every version known with its state and reason, for index and pages."""
        ...

    def answered_with(self, error: ServingError, front_end: str) -> None:
        """Count a call that a front end (``rest``, ``grpc``) answered with an error."""
        ...

    async def statistics(self) -> ServerStatistics:
        """Return what has been counted for every version that is READY, and how the server is."""
        ...

    async def index(self) -> list[dict[str, Any]]:
        """List what ``servables`` lists, and what is there and not loaded, looked up anew."""
        ...

    def let_in(self, authorization: str | None) -> None:
        """Return if a client may ask that sent ``authorization`` under that name.

        Raises Unauthenticated. Health is told to everybody.
        """
        ...

    def control(self, authorization: str | None) -> RepositoryControl:
        """Return who loads and unloads, to somebody who may.

        ``authorization`` is what the client sent under that name. Raises ControlOff, and
        Unauthenticated.
        """
        ...

    def live(self) -> bool:
        """Return whether the server turns over."""
        ...

    def ready(self) -> bool:
        """Return whether the server as a whole takes requests."""
        ...
