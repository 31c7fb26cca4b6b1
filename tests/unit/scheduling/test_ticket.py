"""A claim's outcome goes to whoever listens or waits, once, and is released when nobody does."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest

from serving.channel.arena import Arena
from serving.errors import Cancelled, ExecutionFailed
from serving.request import Description, InferRequest, InferResponse
from serving.scheduling.line import Line, LineSettings
from serving.scheduling.ticket import Ticket
from serving.tensor import FP32, BatchAxes, Signature, Tensor, TensorSpec

SIGNATURE = Signature((TensorSpec("x", FP32, ("n",)),), (TensorSpec("y", FP32, ("n",)),))
KNOWN = Description("m", 1, SIGNATURE, BatchAxes(True, "test", (0,), (0,)), 4, "stub")


class Response(InferResponse):
    def __init__(self) -> None:
        self.releases = 0
        super().__init__("m", 1, "", (), self._count)

    def _count(self) -> None:
        self.releases += 1


def claimed() -> Ticket:
    line = Line(1, KNOWN, LineSettings(), True, Arena(1 << 20))
    x = Tensor("x", FP32, (1,), np.zeros(1, np.float32))
    request = InferRequest("m", (x,))
    admission, shape = line.check(request)
    return Ticket(request, admission, shape, line, 0.0)


async def test_listener_has_the_response_at_once_and_answer_is_left_alone() -> None:
    ticket, heard = claimed(), []
    ticket.tell(heard.append)
    response = Response()
    ticket.succeed(response)
    assert heard == [response]
    ticket.drop()
    assert response.releases == 0


async def test_listener_hears_of_a_failure_at_the_next_turn() -> None:
    ticket, heard = claimed(), []
    ticket.tell(heard.append)
    error = ExecutionFailed("no")
    ticket.fail(error)
    assert heard == []
    await asyncio.sleep(0)
    assert heard == [error]


async def test_response_that_a_listener_breaks_on_is_released(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_outcome: object) -> None:
        raise RuntimeError("a listener with a fault")

    ticket = claimed()
    ticket.tell(broken)
    response = Response()
    with caplog.at_level(logging.ERROR):
        ticket.succeed(response)
    assert response.releases == 1
    assert "could not be handed on" in caplog.text


async def test_answer_waits_for_the_outcome_or_finds_it() -> None:
    early, late, response = claimed(), claimed(), Response()
    waiting = early.answer
    early.succeed(response)
    assert waiting is early.answer
    assert await waiting is response
    late.fail(ExecutionFailed("no"))
    with pytest.raises(ExecutionFailed):
        await late.answer
    assert response.releases == 0


@pytest.mark.parametrize("asked", [False, True])
async def test_dropped_outcomes_are_released_and_errors_forgotten(asked: bool) -> None:
    there, coming, failed = claimed(), claimed(), claimed()
    if asked:
        _ = there.answer, coming.answer, failed.answer
    response, other = Response(), Response()
    there.succeed(response)
    there.drop()
    assert response.releases == 1
    coming.drop()
    coming.succeed(other)
    coming.drop()
    assert other.releases == 1
    failed.fail(Cancelled("nobody waits"))
    failed.drop()


async def test_response_for_a_cancelled_answer_is_released() -> None:
    ticket, response = claimed(), Response()
    ticket.answer.cancel()
    ticket.succeed(response)
    assert response.releases == 1
    ticket.drop()


async def test_listener_of_a_dropped_ticket_hears_nothing() -> None:
    ticket, heard = claimed(), []
    ticket.tell(heard.append)
    ticket.drop()
    ticket.fail(Cancelled("nobody waits"))
    await asyncio.sleep(0)
    assert heard == []
