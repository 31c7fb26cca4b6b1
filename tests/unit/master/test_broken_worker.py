"""Workers that end badly, played by a program.

One that sends what is no message is ended: nobody can tell what else it has damaged. One that lost
its device has said so, however its end is noticed. One that ends with its hello has not started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.channel.messages import Message
from serving.errors import Unavailable
from serving.master import worker
from serving.master.places import Place
from serving.master.worker import UnreadyWorker, Worker, WorkerSpec
from serving.master.worker_process import WorkerProcess
from serving.scheduling.slot import Slot
from serving.scheduling.suspicion import Cause, Loss

BROKEN = """#!{python}
import os, signal, socket, sys
from serving.channel.link import BlockingLink
from serving.channel.messages import PROTOCOL, Hello

told = dict(zip(sys.argv[3::2], sys.argv[4::2]))
control = socket.socket(fileno=int(told["--control-fd"]))
run = socket.socket(fileno=int(told["--run-fd"]))
BlockingLink(control).send(Hello(PROTOCOL, os.getpid(), {{}}))
control.recv(4096)
{where}.send({data!r})
signal.pause()
"""

LOST = """#!{python}
import os, socket, sys
from serving.channel.link import BlockingLink
from serving.channel.messages import PROTOCOL, DeviceGone, Hello

told = dict(zip(sys.argv[3::2], sys.argv[4::2]))
control = socket.socket(fileno=int(told["--control-fd"]))
run = socket.socket(fileno=int(told["--run-fd"]))
link = BlockingLink(control)
link.send(Hello(PROTOCOL, os.getpid(), {{}}))
control.recv(4096)
link.send(DeviceGone("it fell off the bus"))
run.close()
os._exit(75)
"""

DOOMED = """#!{python}
import os, signal, socket, sys
from serving.channel.link import BlockingLink
from serving.channel.messages import PROTOCOL, Hello

told = dict(zip(sys.argv[3::2], sys.argv[4::2]))
control = socket.socket(fileno=int(told["--control-fd"]))
BlockingLink(control).send(Hello(PROTOCOL, os.getpid(), {{}}))
os.kill(os.getpid(), signal.SIGKILL)
"""


class Events:
    """Keeps the order in which a worker's end is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def slot_said(self, slot: Slot, message: Message) -> None:
        raise AssertionError(f"the scheduler was told {message}")

    def worker_lost(self, worker: Worker) -> None:
        self.told.append("lost")

    def worker_reaped(self, worker: Worker) -> None:
        self.told.append("reaped")


async def test_worker_that_does_not_start_has_last_words_without_paths(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'cannot open /srv/secret/lib.so: gone' >&2\nexit 3\n")
    program.chmod(0o755)
    events = Events()
    with pytest.raises(Unavailable) as error:
        await UnreadyWorker(
            WorkerSpec("cpu-0", Place(interpreter=str(program))), events, events
        ).start(20)
    assert str(error.value) == "a worker did not start: cannot open …: gone"


def played(folder: Path, text: str, **values: object) -> WorkerSpec:
    """Write an interpreter that stands for a worker."""
    program = folder / "python"
    program.write_text(text.format(python=sys.executable, **values))
    program.chmod(0o755)
    return WorkerSpec("cpu-0", Place(interpreter=str(program)))


@pytest.mark.parametrize("where", ["control", "run"])
@pytest.mark.parametrize("data", [b"\xff", b"\x30\x00", b"\x31{]"], ids=["kind", "Done", "Failed"])
async def test_worker_that_sends_what_is_no_message_is_ended(
    tmp_path: Path, where: str, data: bytes
) -> None:
    events = Events()
    worker = await UnreadyWorker(
        played(tmp_path, BROKEN, where=where, data=data), events, events
    ).start(20)
    async with asyncio.timeout(10):
        await worker.unload(7)  # never answered: it sets the worker raving
        await worker.gone.wait()
    assert worker.returncode == -signal.SIGKILL
    # Memory that it was lent may be used again only after the second.
    assert events.told == ["lost", "reaped"]


async def test_worker_that_ended_with_its_hello_has_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hello and end are seen together by a master that was busy."""
    launch = worker.launch

    def launch_and_wait(*given: Any) -> WorkerProcess:
        begun = launch(*given)
        os.waitid(os.P_PID, begun.process.pid, os.WEXITED | os.WNOWAIT)
        return begun

    monkeypatch.setattr(worker, "launch", launch_and_wait)
    events = Events()
    with pytest.raises(Unavailable, match="a worker did not start: ended by SIGKILL"):
        await UnreadyWorker(played(tmp_path, DOOMED), events, events).start(20)
    assert events.told == ["lost", "reaped"]


@pytest.mark.parametrize("unread", [False, True], ids=["all read", "something unread"])
@pytest.mark.parametrize("first", ["control", "run", "exit"])
async def test_worker_that_said_that_its_device_is_lost_is_lost_for_that(
    tmp_path: Path, first: str, unread: bool
) -> None:
    """Whichever sign of its end is seen first: they come together on a busy machine."""
    events = Events()
    worker = await UnreadyWorker(played(tmp_path, LOST), events, events).start(20)
    for _ in range(1 + unread):
        worker.ping()
    with contextlib.suppress(ChildProcessError):  # gone, and still to be reaped
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    if first == "run":
        worker.slots[0]._link.hear_out()
    elif first == "exit":
        worker._child._exited()
    async with asyncio.timeout(10):
        await worker.gone.wait()
    assert worker.loss == Loss(Cause.DEVICE, "its device cpu was lost: it fell off the bus")
    assert events.told == ["lost", "reaped"]
