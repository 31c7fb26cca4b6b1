"""A child process: its output reaches the log, its end is seen, nothing of it stays."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from serving.master.child import Child, _Pipe
from serving.scheduling.suspicion import Cause


async def run(program: str, *, kill: int = 0) -> Child:
    """Run a program to its end."""
    ended: list[str] = []
    child = Child("child-1", lambda: ended.append("exit"))
    child.start([sys.executable, "-c", program], dict(os.environ), [])
    if kill:
        os.kill(child.pid, kill)
    async with asyncio.timeout(20):
        await child.gone.wait()
    assert ended == ["exit"]
    assert not psutil.pid_exists(child.pid)
    return child


@pytest.mark.parametrize(
    ("program", "cause", "how"),
    [
        ("raise SystemExit(3)", Cause.CRASHED, "ended with status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", Cause.CRASHED, "SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Cause.ENDED, "SIGKILL"),
        ("import os; os.kill(os.getpid(), 40)", Cause.CRASHED, "ended by signal 40"),
    ],
)
async def test_child_says_how_it_ended(program: str, cause: Cause, how: str) -> None:
    child = await run(program)
    assert child.loss.cause is cause
    assert how in child.loss.how
    assert child.ending() == child.loss.how


async def test_child_keeps_its_last_line_even_without_an_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    child = await run(
        "import sys; print('out', end=''); sys.stderr.write('a\\n{}\\nb'); sys.exit(1)"
    )
    assert child.ending() == "ended with status 1; it wrote last: b"
    assert {"out", "a", "b"} <= set(caplog.messages)


async def test_child_that_writes_one_endless_line_fills_no_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    await run("import sys; [sys.stdout.write('x' * 100_000) for _ in range(30)]")
    assert sum(len(m) for m in caplog.messages) == 3_000_000
    assert max(len(m) for m in caplog.messages) < 200_000


async def test_childs_end_does_not_wait_for_what_somebody_else_still_writes() -> None:
    """A process that has left the group may write as fast as is read."""
    ours, theirs = os.pipe()
    lines: list[bytes] = []

    def write_more(line: bytes) -> None:
        lines.append(line)
        assert len(lines) < 100
        os.write(theirs, b"more\n")

    pipe = _Pipe(os.fdopen(ours, "rb", 0), write_more)
    os.write(theirs, b"first\n")
    pipe.close()
    os.close(theirs)
    assert lines[:2] == [b"first", b"more"]


async def test_child_is_killed_with_all_that_it_has_started() -> None:
    child = Child("child-1", lambda: None)
    program = (
        "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid); time.sleep(600)"
    )
    child.start([sys.executable, "-c", program], dict(os.environ), [])
    async with asyncio.timeout(20):
        while not (family := psutil.Process(child.pid).children()):
            await asyncio.sleep(0.01)
        child.kill()
        await child.gone.wait()
        while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family):
            await asyncio.sleep(0.01)
    child.kill()  # once more does no harm
    assert child.returncode == -signal.SIGKILL


async def test_child_whose_output_a_daemon_holds_is_gone_all_the_same(tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    lives.touch()
    program = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    while os.path.exists({str(lives)!r}):
        time.sleep(0.02)
    os._exit(0)
print("left")
"""
    try:
        await run(program)
        assert lives.exists()
    finally:
        lives.unlink()


async def test_child_that_cannot_be_started_is_an_error() -> None:
    child = Child("child-1", lambda: None)
    with pytest.raises(FileNotFoundError):
        child.start(["/no/such/program"], {}, [])
    child.kill()
