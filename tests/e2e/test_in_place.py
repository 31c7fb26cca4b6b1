"""Rows are run and read where they lie: a byte changed in shared memory changes the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import numpy as np
import pytest

from serving.frontends.rest import predict_codec
from serving.scheduling.line import Line, LineSettings
from serving.scheduling.ticket import Ticket
from serving.tensor import Array, BatchAxes, Tensor
from tests import models
from tests.e2e.fleet import Fleet, fleet

ROWS = BatchAxes(True, "test", (0,), (0,))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Line]]:
    path = tmp_path_factory.mktemp("models") / "double.onnx"
    with fleet(1) as running:
        yield running, running.open(models.variable_width(path), ROWS, LineSettings())


def row(number: float) -> Array:
    return np.full((1, 4), number, np.float32)


async def learnt(running: Fleet, line: Line) -> None:
    """Run once, so that the size of the outputs is known and they are bound in place."""
    ticket = running.claim(line, [Tensor.of("x", row(1))])
    running.scheduler.commit(ticket)
    await running.answer(ticket)


def three(running: Fleet, line: Line) -> list[Ticket]:
    tickets = [running.claim(line, [Tensor.of("x", row(n))]) for n in (1, 2, 3)]
    assert len({id(ticket.batch) for ticket in tickets}) == 1
    assert [ticket.first for ticket in tickets] == [0, 1, 2]
    for ticket in tickets:
        running.scheduler.commit(ticket)
    return tickets


def test_in_place_a_row_changed_after_its_run_was_sent_changes_its_answer_and_no_other(
    served: tuple[Fleet, Line],
) -> None:
    """The batch is sealed and on its way, nothing can copy it any more, and the byte still counts.

    The worker is stopped meanwhile, so that it cannot have run before the byte was written.
    """
    running, line = served

    async def story() -> None:
        await learnt(running, line)
        runs = line.statistics.runs
        with running.stopped_workers():
            tickets = three(running, line)
            batch = tickets[0].batch
            assert batch is not None
            while not running.scheduler.running:
                await asyncio.sleep(0)
            assert not batch.open
            assert [ticket.dispatched for ticket in tickets] == [1, 1, 1]
            (field,) = batch.buffer.layout.inputs
            at = field.offset + 1 * field.row_bytes
            # 2.0 is 0x40000000, and 0x40040000 is 2.0625.
            assert batch.buffer.input.bytes[at : at + 4].tolist() == [0, 0, 0, 0x40]
            batch.buffer.input.bytes[at + 2] = 0x04
        answers = [await running.answer(ticket) for ticket in tickets]
        assert line.statistics.runs == runs + 1
        for answer, wanted in zip(
            answers, ([[2, 2, 2, 2]], [[4.125, 4, 4, 4]], [[6, 6, 6, 6]]), strict=True
        ):
            assert isinstance(answer, list), answer
            assert np.array_equal(answer[0].array, np.array(wanted, np.float32))

    running.run(story())


def test_in_place_a_changed_output_row_is_what_is_encoded(served: tuple[Fleet, Line]) -> None:
    running, line = served

    async def story() -> None:
        await learnt(running, line)
        tickets = three(running, line)
        batch = tickets[0].batch
        assert batch is not None
        responses = [await running.response(ticket) for ticket in tickets]
        output, fields = batch.buffer.output, batch.buffer.layout.outputs
        assert output is not None
        assert fields is not None
        at = fields[0].offset + 2 * fields[0].row_bytes
        output.bytes[at : at + 4] = np.array([-1], "<f4").view(np.uint8)
        assert np.array_equal(responses[2].outputs[0].array, np.array([[-1, 6, 6, 6]]))
        call = predict_codec.PredictCall(line.description, (tickets[2].request,), None, "")
        reply = call.encode([responses[2]])
        assert json.loads(reply.body)["outputs"]["y"] == [[-1.0, 6.0, 6.0, 6.0]]
        assert np.array_equal(responses[1].outputs[0].array, row(4))
        for response in responses:
            response.release()

    running.run(story())
