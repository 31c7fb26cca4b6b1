"""Deadlines and callers who go away, on every way in: counted inside a stub of an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet, fleet
from tests.e2e.fronts import GRPC, WIRES, Fronts, Stub, eventually, fronts

ENDLESS = {"sleep_ms": 60_000, "sleep_on": 1}
"""A run that only a cancel ends within the time of a test; those that warm it are none."""

TOO_LATE = {"lane": 504, "asgi": 504, **dict.fromkeys(GRPC, "DEADLINE_EXCEEDED")}


@pytest.fixture(scope="module")
def running() -> Iterator[Fleet]:
    with fleet(1) as started:
        yield started


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def busy_until_left(opened: Fronts) -> AsyncIterator[Stub]:
    """Serve a model that never ends, and keep the only slot busy with it inside the block."""
    endless = await opened.serve("endless", ENDLESS)
    blocker = await opened.call("lane", endless, [1.0])
    await eventually(lambda: endless.told == ["began 1"], "the first run")
    yield endless
    await blocker.leave()
    await eventually(lambda: "cancelled" in endless.told, "the blocker's run to be ended")


def on_loop(
    running: Fleet, folder: Path, test: Callable[[Fronts], Awaitable[None]], timeout_s: float = 40
) -> None:
    async def run() -> None:
        async with asyncio.timeout(timeout_s), fronts(running, folder) as opened:
            await test(opened)

    running.run(run())


def test_deadline_that_passes_in_the_queue_never_reaches_the_engine(
    running: Fleet, tmp_path: Path, wire: str
) -> None:
    async def test(opened: Fronts) -> None:
        quick = await opened.serve("quick", {})
        async with busy_until_left(opened):
            call = await opened.call(wire, quick, [1.0], timeout_s=0.05)
            status, told = await call.answer()
            assert status == TOO_LATE[wire], told
            if wire not in GRPC:  # whose clients end the call themselves
                assert f"GET /v2/models/{quick.name}/stats" in str(told)
                assert "about 0 s" not in str(told)
        # The slot is free again, and those who come now are run: only those.
        later = await opened.call(wire, quick, [2.0, 3.0])
        assert (await later.answer())[0] == 200
        assert quick.told == ["began 2"]

    on_loop(running, tmp_path, test)


@pytest.mark.parametrize("timeout_us", [50_000])
def test_deadline_of_the_v2_parameter_is_followed_in_the_queue(
    running: Fleet, tmp_path: Path, wire: str, timeout_us: int
) -> None:
    async def test(opened: Fronts) -> None:
        quick = await opened.serve("quick", {})
        async with busy_until_left(opened):
            asked = {"timeout": timeout_us}
            status, told = await (await opened.call(wire, quick, [1.0], parameters=asked)).answer()
            assert status == TOO_LATE[wire], told
            text = told if wire in GRPC else told["error"]
            assert "0 requests waiting" in text
        assert quick.told == []

    on_loop(running, tmp_path, test)


def test_deadline_that_passes_during_a_run_ends_it(
    running: Fleet, tmp_path: Path, wire: str
) -> None:
    async def test(opened: Fronts) -> None:
        endless = await opened.serve("endless", ENDLESS)
        call = await opened.call(wire, endless, [1.0], timeout_s=0.2)
        status, told = await call.answer()
        assert status == TOO_LATE[wire], told
        await eventually(lambda: endless.told == ["began 1", "cancelled"], "the run to be ended")

    on_loop(running, tmp_path, test)


def test_deadline_that_has_passed_when_its_turn_comes_never_reaches_the_engine(
    running: Fleet, tmp_path: Path
) -> None:
    async def test(opened: Fronts) -> None:
        endless = await opened.serve("endless", ENDLESS)
        quick = await opened.serve("quick", {})
        blocker = await opened.call("lane", endless, [1.0])
        await eventually(lambda: endless.told == ["began 1"], "the first run")
        call = await opened.call("lane", quick, [1.0], timeout_s=0.1)
        await eventually(lambda: quick.line.waiting == 1, "the request to wait")
        await blocker.leave()
        # The loop is not let in before the deadline: slot and timer come due in one turn.
        until = asyncio.get_running_loop().time() + 0.2
        while asyncio.get_running_loop().time() < until:
            pass
        assert (await call.answer())[0] == 504
        assert quick.told == []

    on_loop(running, tmp_path, test)


def test_client_that_leaves_while_its_request_waits_never_reaches_the_engine(
    running: Fleet, tmp_path: Path, wire: str
) -> None:
    async def test(opened: Fronts) -> None:
        quick = await opened.serve("quick", {})
        async with busy_until_left(opened):
            call = await opened.call(wire, quick, [1.0])
            await eventually(lambda: quick.line.waiting == 1, "the request to wait")
            await call.leave()
            await eventually(lambda: quick.line.waiting == 0, "its place to be free")
        assert quick.told == []

    on_loop(running, tmp_path, test)


def test_client_that_leaves_alone_in_a_run_ends_it(
    running: Fleet, tmp_path: Path, wire: str
) -> None:
    async def test(opened: Fronts) -> None:
        endless = await opened.serve("endless", ENDLESS)
        call = await opened.call(wire, endless, [1.0])
        await eventually(lambda: endless.told == ["began 1"], "the run")
        await call.leave()
        await eventually(lambda: endless.told == ["began 1", "cancelled"], "the run to be ended")

    on_loop(running, tmp_path, test)


def test_client_that_leaves_company_in_a_run_leaves_it_running(
    running: Fleet, tmp_path: Path, wire: str
) -> None:
    async def test(opened: Fronts) -> None:
        slow = await opened.serve("slow", {"sleep_ms": 300, "add": 1})
        async with busy_until_left(opened):
            calls = [await opened.call(wire, slow, [value]) for value in (1.0, 2.0)]
            await eventually(lambda: slow.line.waiting == 2, "both requests to wait")
        await eventually(lambda: slow.told == ["began 2"], "one run of both")
        await calls[0].leave()
        status, told = await calls[1].answer()
        assert status == 200, told
        assert slow.told == ["began 2"]

    on_loop(running, tmp_path, test)


def test_client_that_leaves_last_ends_the_run(running: Fleet, tmp_path: Path, wire: str) -> None:
    async def test(opened: Fronts) -> None:
        endless = await opened.serve("shared", ENDLESS)
        async with busy_until_left(opened):
            left = await opened.call(wire, endless, [1.0])
            late = await opened.call(wire, endless, [2.0], timeout_s=2.0)
            await eventually(lambda: endless.line.waiting == 2, "both requests to wait")
        await eventually(lambda: endless.told == ["began 2"], "one run of both")
        await left.leave()
        assert (await late.answer())[0] == TOO_LATE[wire]
        await eventually(lambda: endless.told == ["began 2", "cancelled"], "the run to be ended")

    on_loop(running, tmp_path, test)


def test_cancel_does_not_spoil_the_next_run_of_the_same_rows(
    running: Fleet, tmp_path: Path
) -> None:
    async def test(opened: Fronts) -> None:
        slow = await opened.serve("slow", {"sleep_ms": 20, "add": 1})
        for value in range(12):  # the same buffer, the same rows, the same binding
            call = await opened.call("lane", slow, [float(value)])
            if value % 3 == 2:
                await asyncio.sleep(0.002 * value)  # before, during and after its run
                await call.leave()
            else:
                assert await call.answer() == (200, [value + 1.0])
        await eventually(lambda: slow.line.outstanding == 0, "the last to be through")
        assert slow.line.statistics.failed == {
            key: n for key, n in slow.line.statistics.failed.items() if key[0] == "cancelled"
        }

    on_loop(running, tmp_path, test)
