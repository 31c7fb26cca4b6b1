"""Order, flow and ends on a connection, whichever way its calls go."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import json
import threading
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
import uvloop

from serving.frontends.rest import guard
from serving.frontends.rest.predict_codec import PredictCall
from serving.frontends.rest.wire import Reply
from serving.request import InferRequest, InferResponse
from serving.tensor import FP32, Tensor
from tests.contract.rest.running import (
    CALL,
    ECHO,
    GET,
    V2,
    WIDE,
    HeldPlane,
    Serving,
    binary,
    chunked,
    connection,
    numbered,
    post,
    response_of,
    until,
)
from tests.contract.rest.running import serving as serving_by_lane
from tests.doubles.plane import StubPlane


async def test_an_answer_waits_for_those_before_it(serving: Serving) -> None:
    plane = HeldPlane(ECHO)
    sent = [post(numbered(0)), GET, chunked(numbered(1)), GET, post(numbered(2)), post({})]
    async with serving(plane) as front, connection(front) as (reader, writer):
        writer.write(b"".join(sent))
        for number in range(3):
            await until(lambda: bool(plane.held))
            assert len(plane.requests) == number + 1
            plane.answer_all()
            _, _, body = await response_of(reader)
            assert json.loads(body)["id"] == f"{number}"
            if number < 2:
                _, _, body = await response_of(reader)
                assert json.loads(body)["name"] == "serving"
        assert (await response_of(reader))[0] == 400


async def test_both_ways_say_the_same_however_the_bytes_are_cut() -> None:
    random = Random(7)
    for _ in range(25):
        sent = b"".join(
            random.choice(
                [
                    post(numbered(random.randrange(9))),
                    post(V2, "/v2/models/echo/infer"),
                    post(V2, "/v2/models/nobody/infer"),
                    post({"instances": [[1]]}, head="x-request-id: r\r\n"),
                    post(CALL, "/predict?a=1"),
                    chunked(numbered(5)),
                    binary(),
                    GET,
                ]
            )
            for _ in range(random.randrange(1, 9))
        )
        cuts = sorted(random.sample(range(len(sent)), min(6, len(sent))))
        pieces = [sent[a:b] for a, b in itertools.pairwise([0, *cuts, len(sent)])]
        said = [await conversation(lane, pieces, random) for lane in (True, False)]
        assert said[0] == said[1]


async def conversation(lane: bool, pieces: list[bytes], random: Random) -> list[Any]:
    """Return what is answered to the pieces, sent one by one or together, and a last request."""
    last = post({}, head="x-request-id: the-last\r\nconnection: close\r\n")
    found = []
    async with (
        serving_by_lane(StubPlane(ECHO), lane=lane) as front,
        connection(front) as (reader, writer),
    ):
        for piece in [*pieces, last]:
            writer.write(piece)
            if random.random() < 0.5:
                await asyncio.sleep(0.002)
        while not found or found[-1][1].get("x-request-id") != "the-last":
            status, headers, body = await response_of(reader)
            del headers["date"]
            found.append((status, headers, body))
        assert await asyncio.wait_for(reader.read(), 30) == b""
    return found


async def test_a_long_pipeline_of_refusals_is_answered_whole(serving: Serving) -> None:
    plane, count = HeldPlane(ECHO), 2000
    async with serving(plane) as front, connection(front) as (reader, writer):
        for first, wanted in ((b"", 400), (post(CALL), 200)):  # at once, and when it is their turn
            writer.write(first + post({}) * count + GET)
            if first:
                await until(lambda: bool(plane.held))
                plane.answer_all()
                assert (await response_of(reader))[0] == wanted
            for _ in range(count):
                assert (await response_of(reader))[0] == 400
            assert (await response_of(reader))[0] == 200


async def test_a_pipeline_of_many_reads_is_answered_whole(serving: Serving) -> None:
    count = 5000
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(post(CALL) * count)
        for _ in range(count):
            assert (await response_of(reader))[0] == 200


async def test_a_lost_connection_abandons_what_runs_and_starts_nothing_more(
    serving: Serving,
) -> None:
    plane = HeldPlane(ECHO)
    async with serving(plane) as front, connection(front) as (_, writer):
        writer.write(post(numbered(0)))
        await until(lambda: bool(plane.held))
        writer.write(post(numbered(1)) + chunked(numbered(2)))
        (served,) = front._connections()
        await until(lambda: len(served.pipeline) == 2)
        served.transport.abort()
        await until(lambda: plane.abandoned == 1)
        await until(lambda: not front._connections())
    assert len(plane.requests) == 1


@pytest.mark.parametrize("second", [post(CALL), chunked(CALL)])
async def test_nothing_runs_behind_the_last_answer_of_a_connection(
    serving: Serving, second: bytes
) -> None:
    plane, first = StubPlane(ECHO), post({})
    async with serving(plane) as front, connection(front) as (reader, writer):
        writer.write(first[:-1])
        await until(lambda: any(c.cycle for c in front._connections()))
        for served in front._connections():
            served.shutdown()
        writer.write(first[-1:] + second)
        status, headers, _ = await response_of(reader)
        assert (status, headers["connection"]) == (400, "close")
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        await until(lambda: not front._connections())
    assert plane.requests == []


# Flow


def widened(request: InferRequest) -> tuple[Tensor, ...]:
    return (Tensor("x", FP32, (1, 10_000), np.full((1, 10_000), 0.125, np.float32)),)


async def test_a_client_that_does_not_read_is_not_read_from_either(serving: Serving) -> None:
    plane = StubPlane(WIDE, model=widened)
    count = 600
    async with serving(plane) as front, connection(front) as (reader, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(post({"instances": [[1]]}) * count)
        before, still = -1, 0
        while still < 5:  # until no more calls are taken
            await asyncio.sleep(0.05)
            still = still + 1 if len(plane.requests) == before else 0
            before = len(plane.requests)
        (served,) = front._connections()
        assert before < count
        assert served.transport.get_write_buffer_size() < 1 << 20
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(count):
            assert (await response_of(reader))[0] == 200
    assert plane.released == count


async def test_a_client_that_waits_for_an_answer_is_not_read_far_ahead(serving: Serving) -> None:
    plane, count = HeldPlane(ECHO), 60_000
    async with serving(plane) as front, connection(front) as (_, writer):
        writer.write(post(CALL) * count)
        await until(lambda: bool(plane.held))
        (served,) = front._connections()
        before, still = -1, 0
        while still < 5:  # until nothing more is read
            await asyncio.sleep(0.05)
            still = still + 1 if len(served.pipeline) == before else 0
            before = len(served.pipeline)
        assert 0 < before < count / 4
        writer.transport.abort()
        served.cut()
        await until(lambda: plane.abandoned == 1)


async def test_a_client_that_takes_nothing_of_its_answers_is_cut_off(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "WRITE_TIMEOUT_S", 0.2)
    plane = StubPlane(WIDE, model=widened)
    async with serving(plane) as front, connection(front) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(post({"instances": [[1]]}) * 600)
        await until(lambda: bool(plane.requests))
        await until(lambda: not front._connections())
    assert plane.released + plane.abandoned == len(plane.requests) < 600


async def test_a_client_whose_next_head_is_half_read_is_not_cut_off_while_it_waits(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "HEAD_TIMEOUT_S", 0.0)
    plane = HeldPlane(ECHO)
    async with serving(plane) as front, connection(front) as (reader, writer):
        text = post(numbered(2))
        writer.write(post(numbered(0)) + post(numbered(1)) + text[:20])
        await until(lambda: bool(plane.held) and all(c.pipeline for c in front._connections()))
        front._tick()
        plane.answer_all()
        assert (await response_of(reader))[0] == 200


async def test_a_client_that_waits_idle_is_closed_after_its_time(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "KEEP_ALIVE_S", 0.05)
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        for sent in (post(CALL), GET):
            writer.write(sent)
            assert (await response_of(reader))[0] == 200
        assert await asyncio.wait_for(reader.read(), 30) == b""
        await until(lambda: not front._connections())


# Answers


async def test_a_large_answer_to_a_small_call_is_written_and_released(serving: Serving) -> None:
    row = np.arange(100_000, dtype=np.float32)
    plane = StubPlane(WIDE, model=lambda _: (Tensor("x", FP32, (1, 100_000), row.reshape(1, -1)),))
    async with serving(plane) as front, connection(front) as (reader, writer):
        writer.write(post({"instances": [[1]]}))
        _, _, body = await response_of(reader)
        assert json.loads(body)["instances"][0]["x"] == row.tolist()
    assert plane.released == 1


async def test_rows_are_held_until_a_thread_has_encoded_them_though_nobody_waits(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = threading.Event(), threading.Event()
    encode = PredictCall.encode

    def slowly(self: PredictCall, responses: Sequence[InferResponse]) -> Reply:
        entered.set()
        assert go.wait(10)
        return encode(self, responses)

    monkeypatch.setattr(PredictCall, "encode", slowly)
    row = np.zeros((1, 100_000), np.float32)
    plane = StubPlane(WIDE, model=lambda _: (Tensor("x", FP32, row.shape, row),))
    async with serving(plane) as front:
        async with connection(front) as (_, writer):
            writer.write(post({"instances": [[1]]}))
            await until(entered.is_set)
        await until(lambda: not front._connections())
        assert plane.released == 0
        go.set()
        await until(lambda: plane.released == 1)


async def test_a_call_whose_body_is_on_its_way_is_answered_in_a_drain(serving: Serving) -> None:
    text = post(CALL)
    async with serving(StubPlane(ECHO)) as front, connection(front) as (reader, writer):
        writer.write(text[:-3])
        await until(lambda: any(c.cycle for c in front._connections()))
        drained = asyncio.create_task(front.drain(10))
        await asyncio.sleep(0)
        writer.write(text[-3:])
        status, headers, _ = await response_of(reader)
        assert (status, headers["connection"]) == (200, "close")
        await asyncio.wait_for(drained, 30)


@pytest.mark.parametrize(
    "story",
    [
        test_an_answer_waits_for_those_before_it,
        test_a_long_pipeline_of_refusals_is_answered_whole,
        test_a_lost_connection_abandons_what_runs_and_starts_nothing_more,
        test_nothing_runs_behind_the_last_answer_of_a_connection,
        test_a_client_that_does_not_read_is_not_read_from_either,
        test_a_call_whose_body_is_on_its_way_is_answered_in_a_drain,
    ],
)
def test_order_flow_and_ends_are_the_same_on_the_servers_own_event_loop(
    serving: Serving, story: Callable[..., Coroutine[Any, Any, None]]
) -> None:
    more = (chunked(CALL),) if "second" in inspect.signature(story).parameters else ()
    uvloop.run(story(serving, *more))
