"""Simulated cores: who computes when there are fewer than processes."""

from collections.abc import Callable

import pytest

from tests.unit.scheduling.cores import Cores


def test_cores_end_work_in_order_and_timers_between() -> None:
    cores = Cores()
    seen: list[tuple[str, float]] = []
    one = cores.process()
    one.later(2.0, lambda: seen.append(("second", cores.now)))
    one.next([(1.0, lambda: seen.append(("first", cores.now)))])
    cores.at(1.5, lambda: seen.append(("timer", cores.now)))
    cores.run(10.0)
    assert seen == [("first", 1.0), ("timer", 1.5), ("second", 3.0)]


@pytest.mark.parametrize(("number", "ends"), [(None, 2.0), (2, 3.0)])
def test_cores_are_taken_by_higher_priority(number: int | None, ends: float) -> None:
    cores = Cores(number)
    seen: dict[str, float] = {}

    def starts(name: str, priority: int, seconds: float) -> Callable[[], None]:
        process = cores.process(priority)
        return lambda: process.later(seconds, lambda: seen.update({name: cores.now}))

    cores.at(0.0, starts("low", 0, 2.0))
    cores.at(1.0, starts("middle", 1, 1.0))
    cores.at(1.0, starts("high", 2, 1.0))
    cores.run(10.0)
    assert seen == {"middle": 2.0, "high": 2.0, "low": ends}
