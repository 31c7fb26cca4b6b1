"""A process that was just started gives way with every thread it has."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.repository import priority
from serving.repository.priority import give_way, of_background

WITH_A_THREAD = """\
import os, sys, threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print("up", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def program() -> Iterator[int]:
    """Run a program that leads a group, until it has said a line."""
    with subprocess.Popen(
        [sys.executable, "-c", WITH_A_THREAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


def niceness(task: Path) -> int:
    """Return field 19 of a process's or a thread's stat."""
    return int(task.joinpath("stat").read_text().rpartition(")")[2].split()[16])


def test_all_threads_of_a_process_give_way_and_its_starter_does_not() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with program() as pid:
        give_way(pid, 3)
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        assert len(threads) == 2
        assert [niceness(thread) for thread in threads] == [own + 3] * 2
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


def test_niceness_is_added_to_what_a_process_has_and_ends_at_19() -> None:
    with program() as pid:
        give_way(pid, 12)
        give_way(pid, 12)
        assert niceness(Path(f"/proc/{pid}")) == 19


def test_without_niceness_nothing_is_changed() -> None:
    with program() as pid:
        give_way(pid, 0)
        assert niceness(Path(f"/proc/{pid}")) == os.getpriority(os.PRIO_PROCESS, 0)


def test_process_that_has_ended_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    with program() as pid:
        pass
    give_way(pid, 5)
    assert not caplog.messages


def test_system_that_knows_no_groups_is_told_and_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(which: int, who: int, nice: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "setpriority", refuse)
    priority._tell.cache_clear()
    caplog.set_level(logging.WARNING)
    with program() as pid:
        give_way(pid, 5)
        give_way(pid, 5)
    said = "workers and helpers do not give way to the server: Invalid argument"
    assert caplog.messages == [said], "once"


@pytest.mark.parametrize(("workers", "background"), [(0, 0), (1, 11), (5, 15), (9, 19), (19, 19)])
def test_background_stands_behind_workers_unless_nothing_gives_way(
    workers: int, background: int
) -> None:
    assert of_background(workers) == background
