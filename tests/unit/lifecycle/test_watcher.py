"""How often the model directory is looked at."""

import asyncio
import time
from typing import Any, cast

import pytest

from serving.lifecycle import watcher
from serving.lifecycle.manager import Manager
from serving.repository.observation import Observation


async def _looks(slow: set[int], wanted: int) -> float:
    """Poll every 10 ms until there were so many looks, the ``slow`` of which take 0.2 s."""
    began, count, over = time.monotonic(), 0, asyncio.Event()
    loop = asyncio.get_running_loop()

    def look(_before: Observation | None) -> None:
        nonlocal count
        count += 1
        if count in slow:
            time.sleep(0.2)
        if count == wanted:
            loop.call_soon_threadsafe(over.set)

    polling = watcher.Watcher(look, cast(Manager, cast(Any, None)))
    polling.poll(0.01)
    async with asyncio.timeout(30):
        await over.wait()
    await polling.stop()
    return time.monotonic() - began


async def test_one_look_that_took_long_does_not_put_off_the_next() -> None:
    assert await _looks({2}, 4) < 0.2 / watcher._SHARE


async def test_directory_that_is_slow_is_looked_at_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watcher, "_SHARE", 0.5)
    assert await _looks({1, 2}, 3) >= 0.2 / 0.5 + 0.4
