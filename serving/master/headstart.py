"""A head start for the first worker: its process begins while the master is still importing.

Each of the two takes a fifth of a second of CPU for its imports, and most machines have more than
one core. So ``serving start`` starts the process of the place ``cpu-0`` as soon as the settings are
known, and the master takes it over when it comes to its workers. Short to import.
"""

from __future__ import annotations

import contextlib
import sys

from serving.config import ServerSettings
from serving.devices import BACKENDS, SLOTS, Device, parse_devices
from serving.master.cores import busy_poll_us
from serving.master.worker_process import WorkerProcess, launch, words_for
from serving.repository.interpreter import environment as environment_for

_begun: list[WorkerProcess] = []


def begin(settings: ServerSettings) -> None:
    """Start the process of the first CPU worker, if there is to be one in this environment.

    ``end`` must be called when the server is done with, whether it was taken over or not.
    """
    asked = parse_devices(settings.devices)
    if not asked.cpu or not settings.workers or BACKENDS["cpu"] in settings.backends:
        return
    device = Device("cpu", 0)
    name = f"{device.kind}-{device.index}"
    words = words_for(
        name, settings.log_level, sys.executable, device, "", busy_poll_us(settings.busy_poll_us)
    )
    with contextlib.suppress(OSError):  # the master will meet it too, and has the words for it
        _begun.append(launch(words, SLOTS["cpu"], environment_for()))


def take(words: list[str], environment: dict[str, str]) -> WorkerProcess | None:
    """Return the process if it is just what would be started by these words, once."""
    if not _begun or _begun[0].words != words:
        return None
    begun = _begun.pop()
    if begun.environment == environment:
        return begun
    _drop(begun)
    return None


def end() -> None:
    """Let go of a process that nobody took over: the server ended before it came to that."""
    while _begun:
        _drop(_begun.pop())


def _drop(begun: WorkerProcess) -> None:
    for link in (begun.control, *begun.runs):
        link.close()
    begun.process.kill()
    begun.process.communicate()
