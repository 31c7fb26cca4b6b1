"""Every process is killed, held and told to leave in every state: nothing hangs, nothing is lost.

One run of each cell here; ten at random times, and how long each took to be well again, with
``-m matrix`` (MATRIX_RUNS for fewer; MATRIX_SEED repeats the times of an earlier job).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.master.backoff import FREE_RESTARTS
from tests.faults.matrix import CELLS, OPTIONS, Cell, Trial, write_models
from tests.server import ServerProcess, serving

_RUNS = int(os.environ.get("MATRIX_RUNS", "10"))
_LATEST_S = 0.4
_SEED = int(os.environ.get("MATRIX_SEED", random.SystemRandom().randrange(1 << 32)))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which both models are proved, so that no cell has to do it again."""
    home = tmp_path_factory.mktemp("proved")
    models, late = write_models(home)
    late.rename(models / "late")
    with serving(models, home / "run") as server:
        assert server.get("/v2/models/late/ready")[0] == 200
        assert server.stop() == 0
    return home / "run" / "cache"


class Host:
    """Gives each cell a server: its own if that ends with it, else one that several share.

    A place whose worker ends more than twice a minute waits before the next is started, so a server
    is kept for so many.
    """

    def __init__(self, home: Path, cache: Path) -> None:
        self._home = home
        self._options = (*OPTIONS, "--cache-dir", str(cache))
        self._numbers = itertools.count()
        self._stack = contextlib.ExitStack()
        self._kept: tuple[ServerProcess, Path] | None = None
        self._lost_workers = 0

    def run(self, cell: Cell, pause_s: float) -> float:
        """Carry a cell out; returns the seconds from the signal until all was well, or over."""
        if cell.ends_the_server:
            with self._start() as (server, late):
                seconds = Trial(cell, server, late).run(pause_s)
                assert "Traceback" not in server.log(), server.log()
            return seconds
        ends_worker = cell.role == "worker" and cell.signal is not signal.SIGTERM
        if ends_worker and self._lost_workers == FREE_RESTARTS:
            self.close()
        if self._kept is None:
            self._kept = self._stack.enter_context(self._start())
            self._lost_workers = 0
        kept, self._kept = self._kept, None  # not for another cell should this one fail
        seconds = Trial(cell, *kept).run(pause_s)
        self._kept = kept
        self._lost_workers += ends_worker
        return seconds

    def close(self) -> None:
        """Stop the kept server as it should stop, with nothing left."""
        if self._kept is not None:
            server, _ = self._kept
            self._kept = None
            family = server.children()
            assert server.stop() == 0, server.log()
            assert not [process for process in family if process.is_running()]
            assert "Traceback" not in server.log(), server.log()
        self._stack.close()

    @contextlib.contextmanager
    def _start(self) -> Iterator[tuple[ServerProcess, Path]]:
        home = self._home / str(next(self._numbers))
        models, late = write_models(home)
        with serving(models, home / "run", *self._options) as server:
            yield server, late


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Host]:
    running = Host(tmp_path_factory.mktemp("cells"), cache)
    yield running
    running.close()


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_signal_costs_no_request_and_leaves_nothing(cell: Cell, host: Host) -> None:
    host.run(cell, 0.0)


@pytest.mark.matrix
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_signal_at_a_random_time_costs_no_request(
    cell: Cell, host: Host, recovery_times: dict[str, list[float]]
) -> None:
    times = random.Random(f"{_SEED} {cell}")
    for number in range(_RUNS):
        pause_s = times.uniform(0, _LATEST_S)
        print(f"MATRIX_SEED={_SEED}: run {number} of {cell}, {pause_s:.3f} s late")
        seconds = host.run(cell, pause_s)
        recovery_times.setdefault(str(cell), []).append(seconds)
