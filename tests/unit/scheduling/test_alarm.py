"""The exact timer."""

import asyncio
import os
import time

from serving.scheduling.alarm import Alarm


async def test_alarm_rings_once_and_not_before_its_time() -> None:
    rung: list[float] = []
    alarm = Alarm(lambda: rung.append(time.monotonic()))
    start = time.monotonic()
    alarm.set(0.003)
    async with asyncio.timeout(5):
        while not rung:
            await asyncio.sleep(0)
    assert rung[0] - start >= 0.003
    alarm.set(0.001)
    alarm.set(None)
    await asyncio.sleep(0.02)
    assert len(rung) == 1
    alarm.close()


async def test_alarm_set_again_rings_at_the_later_time_only() -> None:
    rung: list[float] = []
    alarm = Alarm(lambda: rung.append(time.monotonic()))
    start = time.monotonic()
    alarm.set(0.001)
    alarm.set(0.02)
    async with asyncio.timeout(5):
        while not rung:
            await asyncio.sleep(0)
    assert rung[0] - start >= 0.02
    alarm.close()


async def test_alarm_leaves_no_descriptor_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        alarm = Alarm(lambda: None)
        alarm.set(1.0)
        alarm.close()
        alarm.close()
    assert len(os.listdir("/proc/self/fd")) == before
