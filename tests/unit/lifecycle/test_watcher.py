"""How often the model directory is looked at."""

import asyncio
from typing import Any, cast

import pytest

from serving.lifecycle import watcher
from serving.lifecycle.manager import Manager
from serving.repository.observation import Observation

INTERVAL_S = 0.25
SLOW_S = 2.0


class Clock:
    """Time that only looks and sleeps take; stands in for ``time`` and ``asyncio`` there."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


async def _pauses(monkeypatch: pytest.MonkeyPatch, slow: set[int], looks: int) -> list[float]:
    """Return the pauses before so many looks, the ``slow`` of which take two seconds."""
    clock, count, over = Clock(), 0, asyncio.Event()
    monkeypatch.setattr(watcher, "time", clock)
    monkeypatch.setattr(watcher, "asyncio", clock)
    loop = asyncio.get_running_loop()

    def look(_before: Observation | None) -> None:
        nonlocal count
        count += 1
        if count in slow:
            clock.now += SLOW_S
        if count == looks:
            loop.call_soon_threadsafe(over.set)

    polling = watcher.Watcher(look, cast(Manager, cast(Any, None)))
    polling.poll(INTERVAL_S)
    async with asyncio.timeout(30):
        await over.wait()
    await polling.stop()
    return clock.slept[:looks]


async def test_one_look_that_took_long_does_not_put_off_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await _pauses(monkeypatch, {2}, 4) == [INTERVAL_S] * 4


async def test_directory_that_is_slow_is_looked_at_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rarely = SLOW_S / watcher._SHARE
    expected = pytest.approx([INTERVAL_S, INTERVAL_S, rarely, rarely, INTERVAL_S])
    assert await _pauses(monkeypatch, {1, 2, 3}, 5) == expected


class Offered:
    """Stands for the manager where nothing is loaded: it is offered things and is quiet."""

    def __init__(self) -> None:
        self.available: frozenset[str] = frozenset()
        self.settled = False

    def offer_all(self, _offers: object) -> None:
        """Take what is offered."""

    async def quiet(self) -> None:
        """Be quiet at once."""


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (["digits", "words"], "load at the start (did you mean 'digits'?)"),
        (["words"], "load at the start; expected 'words'"),
        ([], "load at the start; expected none"),
    ],
)
async def test_name_to_begin_with_that_is_not_there_is_told_with_the_nearest(
    there: list[str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Observation(dict.fromkeys(there, cast(Any, None)), (), cast(Any, None), 0)
    manager = Offered()
    watching = watcher.Watcher(lambda _before: seen, cast(Manager, cast(Any, manager)))
    await watching.first(frozenset({"digitz"}))
    assert caplog.messages == [f"there is no servable 'digitz' to {said}"]
    assert manager.settled
