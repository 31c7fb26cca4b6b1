"""More requests than a server keeps waiting: refused at once and in words, the others answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from serving.channel.arena import size_class
from serving.scheduling.crowd import CrowdLimits
from tests.e2e.fleet import Fleet, fleet
from tests.e2e.fronts import GRPC, WIRES, Fronts, Stub, eventually, fronts

BLOCKED = {"sleep_ms": 60_000, "sleep_on": 1}
FULL = {"lane": 429, "asgi": 429, **dict.fromkeys(GRPC, "RESOURCE_EXHAUSTED")}


@pytest.fixture(scope="module")
def running() -> Iterator[Fleet]:
    with fleet(1) as started:
        yield started


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def on_loop(
    running: Fleet,
    folder: Path,
    test: Callable[[Fronts], Awaitable[None]],
    crowd: CrowdLimits | None = None,
) -> None:
    async def run() -> None:
        async with asyncio.timeout(40), fronts(running, folder, crowd) as opened:
            await test(opened)

    running.run(run())


def text(wire: str, told: object) -> str:
    return str(told if wire in GRPC else told["error"])  # type: ignore[index]


async def blocked(opened: Fronts) -> Callable[[], Awaitable[None]]:
    """Keep the only slot busy; returns what ends it."""
    stub = await opened.serve("blocker", BLOCKED)
    call = await opened.call("lane", stub, [1.0])
    await eventually(lambda: stub.told == ["began 1"], "the run that blocks")
    return call.leave


def test_overload_of_a_servable_is_refused_with_the_queues_length(
    running: Fleet, tmp_path: Path, wire: str
) -> None:
    async def test(opened: Fronts) -> None:
        small = await opened.serve("small", {}, max_queue_size=2)
        free = await blocked(opened)
        calls = [await opened.call(wire, small, [value]) for value in (1.0, 2.0)]
        await eventually(lambda: small.line.waiting == 2, "a full queue")
        status, told = await (await opened.call(wire, small, [3.0])).answer()
        assert status == FULL[wire]
        assert "given 2 waiting" in text(wire, told)
        assert "at most 2 requests" in text(wire, told)
        if wire not in GRPC:
            assert "retry-after: 1\r\n" in told["head"]
        await free()
        assert [(await call.answer())[0] for call in calls] == [200, 200]
        assert small.line.statistics.refused == {("overloaded", "queue_full"): 1}

    on_loop(running, tmp_path, test)


def test_overload_says_how_long_the_queue_takes_once_that_is_known(
    running: Fleet, tmp_path: Path
) -> None:
    async def test(opened: Fronts) -> None:
        steady = await opened.serve("steady", {"sleep_ms": 40}, max_queue_size=8, max_batch_size=1)
        texts: list[str] = []
        for _ in range(2):
            calls = [await opened.call("grpc", steady, [0.0]) for _ in range(14)]
            answers = [await call.answer() for call in calls]
            texts += [str(told) for status, told in answers if status != 200]
        assert texts
        # Nine rows of 40 ms stand before whoever is refused; a busy machine makes it longer.
        seconds = float(texts[-1].split("about ")[1].split(" s of waiting")[0])
        assert 0.1 < seconds < 10

    on_loop(running, tmp_path, test)


def test_overload_of_the_server_is_refused_whatever_the_servable(
    running: Fleet, tmp_path: Path, wire: str
) -> None:
    async def test(opened: Fronts) -> None:
        stubs = [await opened.serve(f"one-{n}", {}) for n in range(3)]
        free = await blocked(opened)
        calls = [await opened.call(wire, stub, [0.0]) for stub in stubs]
        await eventually(lambda: sum(s.line.waiting for s in stubs) == 3, "three to wait")
        status, told = await (await opened.call(wire, stubs[0], [0.0])).answer()
        assert status == FULL[wire]
        assert "at most 3 requests waiting for all servables" in text(wire, told)
        await calls[2].leave()
        await eventually(lambda: stubs[2].line.waiting == 0, "one to have gone")
        calls[2] = await opened.call(wire, stubs[1], [0.0])  # its place is free again
        await eventually(lambda: stubs[1].line.waiting == 2, "another to wait")
        await free()
        assert [(await call.answer())[0] for call in calls] == [200, 200, 200]

    on_loop(running, tmp_path, test, CrowdLimits(requests=3))


def test_overload_by_bytes_lets_a_large_request_in_when_nobody_waits(
    running: Fleet, tmp_path: Path
) -> None:
    async def test(opened: Fronts) -> None:
        one, other = await opened.serve("one", {}), await opened.serve("other", {})
        free = await blocked(opened)
        large = await opened.call("lane", one, [0.0] * 400)  # 1,600 bytes
        await eventually(lambda: one.line.waiting == 1, "the large one to wait")
        status, told = await (await opened.call("lane", other, [0.0])).answer()
        assert status == 429
        assert "waiting for all servables" in told["error"]
        await free()
        assert (await large.answer())[0] == 200

    on_loop(running, tmp_path, test, CrowdLimits(nbytes=1024))


def test_overload_answers_urgent_requests_first(running: Fleet, tmp_path: Path, wire: str) -> None:
    async def test(opened: Fronts) -> None:
        line = await opened.serve("line", {"sleep_ms": 20}, max_batch_size=1)
        free = await blocked(opened)
        order: list[str] = []

        async def ask(name: str, priority: int) -> None:
            call = await opened.call(wire, line, [0.0], parameters={"priority": priority})
            assert (await call.answer())[0] == 200
            order.append(name)

        async with asyncio.TaskGroup() as group:
            for number in range(12):
                group.create_task(ask(f"patient-{number}", 5))
            await eventually(lambda: line.line.waiting == 12, "the patient to wait")
            group.create_task(ask("urgent", 1))
            await eventually(lambda: line.line.waiting == 13, "the urgent one to wait")
            await free()
        # Those whose rows are written already stay before it: a buffer for each slot and two more.
        assert order.index("urgent") <= 4

    on_loop(running, tmp_path, test)


def test_overload_leaves_nothing_behind_and_answers_what_it_took(
    running: Fleet, tmp_path: Path
) -> None:
    outcomes: Counter[object] = Counter()
    peak: list[int] = []

    async def client(opened: Fronts, stub: Stub, number: int) -> None:
        wire = WIRES[number % len(WIRES)]
        for turn in range(12):
            value = float(number * 100 + turn)
            status, told = await (await opened.call(wire, stub, [value])).answer()
            outcomes[status] += 1
            if status == 200 and wire not in GRPC:
                assert told == [value + 1]
            peak.append(running.arena.used_bytes)

    async def test(opened: Fronts) -> None:
        stub = await opened.serve(
            "busy", {"sleep_ms": 5, "add": 1}, max_batch_size=2, max_queue_size=6
        )
        await asyncio.gather(*[client(opened, stub, number) for number in range(48)])
        assert set(outcomes) == {200, 429, "RESOURCE_EXHAUSTED"}
        assert outcomes.total() == 48 * 12
        assert stub.line.waiting == stub.line.waiting_bytes == 0
        counted = stub.line.statistics
        assert counted.requests == outcomes[200]
        assert sum(counted.refused.values()) == outcomes.total() - outcomes[200]
        # A queue of six rows takes buffers for a few, however many knock at the door.
        assert max(peak) <= 16 * size_class(1)

    on_loop(running, tmp_path, test)
