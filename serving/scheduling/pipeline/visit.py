"""What an instance is at: a model or a function that was asked, and not yet answered for good."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from serving.errors import ServingError
from serving.request import InferRequest
from serving.scheduling.pipeline.port import Port, Values
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.stages.scheduler import StageScheduler
from serving.scheduling.stages.ticket import StageTicket
from serving.scheduling.ticket import Ticket


class Visit(Protocol):
    """A claim on a model or a function. Once its ``answer`` is there it holds the values."""

    @property
    def answer(self) -> asyncio.Future[Any]:
        """Set to something that only the visit understands, or to a ServingError."""
        ...

    def values(self) -> Values:
        """Return the values of an answer; views until ``release``."""
        ...

    def abandon(self) -> None:
        """Withdraw, answered or not: nothing is looked at, and nothing held, from here on."""
        ...

    def release(self) -> None:
        """Give the values of an answer back, exactly once."""
        ...


class ModelVisit:
    """A request to a model, claimed and committed."""

    __slots__ = ("_port", "_scheduler", "answer", "ticket")

    def __init__(self, scheduler: Scheduler, port: Port, ticket: Ticket) -> None:
        self._scheduler = scheduler
        self._port = port
        self.ticket = ticket
        self.answer = ticket.answer

    @staticmethod
    def begin(scheduler: Scheduler, port: Port, request: InferRequest) -> ModelVisit:
        """Claim and commit; raises a ServingError, which the model's line has counted."""
        line = port.line
        try:
            ticket = scheduler.claim(line, request)
        except ServingError as error:
            line.statistics.refuse(error)
            raise
        scheduler.commit(ticket)
        return ModelVisit(scheduler, port, ticket)

    def values(self) -> Values:
        """Return the model's outputs for the instance."""
        return self._port.values(self.answer.result())

    def abandon(self) -> None:
        """Withdraw the request."""
        self._scheduler.abandon(self.ticket)

    def release(self) -> None:
        """Give the rows back."""
        self.answer.result().release()


class StageVisit:
    """An instance that was handed to a function."""

    __slots__ = ("_scheduler", "answer", "ticket")

    def __init__(self, scheduler: StageScheduler, ticket: StageTicket) -> None:
        self._scheduler = scheduler
        self.ticket = ticket
        self.answer = ticket.answer

    def values(self) -> Values:
        """Return what the function returned."""
        return self.answer.result().values

    def abandon(self) -> None:
        """Withdraw the instance."""
        self._scheduler.abandon(self.ticket)

    def release(self) -> None:
        """Give the values back."""
        self.answer.result().release()
