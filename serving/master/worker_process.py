"""The process of a worker as it is started: its command, its links. Short to import."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from serving.channel.link import pair
from serving.devices import Device
from serving.repository.interpreter import command


class WorkerProcess(NamedTuple):
    """A process, the master's ends of its links, and what it was started with.

    ``words`` are those of its command that do not name descriptors.
    """

    process: subprocess.Popen[bytes]
    control: socket.socket
    runs: list[socket.socket]
    words: list[str]
    environment: dict[str, str]


def words_for(
    name: str,
    log_level: str,
    interpreter: str,
    device: Device,
    backend: str,
    busy_poll_us: int = 0,
) -> list[str]:
    """Return the words that start a worker of a place."""
    words = [
        *command(interpreter, "serving.worker"),
        "--master", str(os.getpid()),
        "--name", name,
        "--log-level", log_level,
    ]  # fmt: skip
    if device.kind != "cpu":
        words += ["--device", device.kind, "--device-index", str(device.index)]
        words += ["--backend", backend]
    if busy_poll_us:
        words += ["--busy-poll-us", str(busy_poll_us)]
    return words


def launch(words: list[str], slots: int, environment: dict[str, str]) -> WorkerProcess:
    """Start a process with its links; raises OSError."""
    control, theirs = pair()
    runs = [pair() for _ in range(slots)]
    ours, passed = [end for end, _ in runs], [theirs, *[end for _, end in runs]]
    fds = [end.fileno() for end in passed]
    given = [*words, "--control-fd", str(fds[0])]
    for fd in fds[1:]:
        given += ["--run-fd", str(fd)]
    try:
        process = popen(given, environment, fds, mute=True)
    except OSError:
        for end in (control, *ours):
            end.close()
        raise
    finally:
        for end in passed:
            end.close()
    return WorkerProcess(process, control, ours, words, environment)


def popen(
    words: Sequence[str], environment: Mapping[str, str], fds: Sequence[int], *, mute: bool
) -> subprocess.Popen[bytes]:
    """Start a process that leads a group of its own; raises OSError.

    What a ``mute`` one writes to its standard output goes nowhere.
    """
    return subprocess.Popen(
        words,
        pass_fds=fds,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if mute else subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        process_group=0,
    )
