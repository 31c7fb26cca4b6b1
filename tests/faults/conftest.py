"""The recovery times that fault tests met, for the end of the report."""

from __future__ import annotations

import pytest

Times = dict[str, list[float]]
_TIMES = pytest.StashKey[Times]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TIMES] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes unless it is asked for by name: ``-m matrix``."""
    if "matrix" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("matrix")]
    items[:] = [item for item in items if item not in long]
    config.hook.pytest_deselected(items=long)


@pytest.fixture
def recovery_times(request: pytest.FixtureRequest) -> Times:
    """Seconds from a fault until all was well again, by what happened."""
    return request.config.stash[_TIMES]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    times = config.stash.get(_TIMES, {})
    if not times:
        return
    terminalreporter.section("recovery times, seconds")
    terminalreporter.line(f"{'what':32} {'runs':>5} {'median':>7} {'most':>7}")
    for what, seconds in times.items():
        ordered = sorted(seconds)
        median, most = ordered[len(ordered) // 2], ordered[-1]
        terminalreporter.line(f"{what:32} {len(ordered):5} {median:7.2f} {most:7.2f}")
