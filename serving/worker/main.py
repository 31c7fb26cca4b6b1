"""The life of a worker process: connect, say hello, load and run until the master leaves.

Threads: this one answers the control link; one loader thread loads and unloads (a load may take
minutes and must not delay a batch); one slot thread per run link runs batches. Nothing here
decides policy and nothing talks to the network.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import queue
import resource
import signal
import socket
import sys
import threading
from typing import Any, List, Optional, Union

import numpy as np

from serving import logs
from serving.backends.base import BackendError, DeviceLost
from serving.channel.link import BlockingLink
from serving.channel.messages import (
    PROTOCOL,
    Cancel,
    DeviceGone,
    Hello,
    Load,
    Message,
    Ping,
    Pong,
    Stop,
    Unload,
    cut,
)
from serving.devices import Device
from serving.worker.bus_guard import BusGuard
from serving.worker.client_files import ClientFiles
from serving.worker.host import Host
from serving.worker.loop import Slot
from serving.worker.memory import Mappings, giving_back
from serving.worker.parent import die_with_the_master, offer_to_the_oom_killer

_log = logging.getLogger("serving.worker")

_NO_DEVICE = 75
"""EX_TEMPFAIL: the device cannot be had, or is lost; another start may find it again."""

_CLOSING_S = 3.0


def main() -> None:
    """Run a worker on the descriptors that the master passed."""
    options = _arguments()
    die_with_the_master(options.master)
    logs.configure("json", options.log_level, options.name)
    # Ctrl-C in a terminal reaches the whole group: stopping is the master's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.data_limit_mb:
        _limit_data(options.data_limit_mb << 20)
    if options.expendable:
        # A trial that eats the machine's memory must die before anything that serves.
        offer_to_the_oom_killer(1000)
    # Several slots would take the interpreter from each other.
    busy_poll_us = options.busy_poll_us if len(options.run_fd) == 1 else 0
    runs = [BlockingLink(socket.socket(fileno=fd), busy_poll_us) for fd in options.run_fd]
    guard = BusGuard()
    if runs:
        guard.install()
    mappings = Mappings()
    device = Device(options.device, options.device_index)
    Worker(
        BlockingLink(socket.socket(fileno=options.control_fd)),
        runs,
        Host(device, mappings, len(runs)),
        mappings,
        options.backend,
        guard,
    ).run()


class Worker:
    """Owns the links and the threads of this process.

    ``backend`` is opened before anything else, so that a device that cannot be had is known at
    once; with none, backends are opened when a model wants them.
    """

    def __init__(
        self,
        control: BlockingLink,
        runs: List[BlockingLink],
        host: Host,
        mappings: Mappings,
        backend: str = "",
        guard: Optional[BusGuard] = None,
    ) -> None:
        self._control = control
        self._host = host
        self._backend = backend
        files = ClientFiles(guard)
        self._slots = [Slot(link, host, mappings, self._device_lost, files) for link in runs]
        self._to_load: "queue.SimpleQueue[Union[Load, Unload]]" = queue.SimpleQueue()

    def run(self) -> None:
        """Say hello, then answer the control link until the master stops us or is gone."""
        versions = {"python": sys.version.split()[0], "numpy": np.__version__}
        if self._backend:
            versions.update(self._open())
        for slot in self._slots:
            threading.Thread(target=slot.run, daemon=True, name="slot").start()
        threading.Thread(target=self._load_and_unload, daemon=True, name="loader").start()
        self._control.send(Hello(PROTOCOL, os.getpid(), versions))
        while True:
            message, _ = self._control.receive()
            if isinstance(message, Stop):
                self._let_go()
            if message is None or isinstance(message, Stop):
                # Not sys.exit: an engine's thread may be deep in a run that nobody waits for.
                os._exit(0)
            self._answer(message)

    def _open(self) -> "dict[str, str]":
        """Open the device; without it this process is of no use, and its last line says why."""
        try:
            return self._host.backend(self._backend).versions()
        except BackendError as error:
            print(cut(str(error)), file=sys.stderr, flush=True)
            os._exit(_NO_DEVICE)

    def _let_go(self) -> None:
        """Close models and device, for so long as the master waits for it."""
        if not self._backend:
            return
        closing = threading.Thread(target=self._host.close, daemon=True, name="closing")
        closing.start()
        closing.join(_CLOSING_S)

    def _device_lost(self, error: DeviceLost) -> None:
        """Tell the master, and end: what the driver still holds goes with this process."""
        _log.error("the device is lost: %s", error)
        self._control.send(DeviceGone(cut(str(error))))
        os._exit(_NO_DEVICE)

    def _answer(self, message: Message) -> None:
        if isinstance(message, (Load, Unload)):
            self._to_load.put(message)
        elif isinstance(message, Cancel):
            for slot in self._slots:
                slot.cancel(message.run)
        elif isinstance(message, Ping):
            self._control.send(Pong(message.serial))

    def _load_and_unload(self) -> None:
        try:
            self._obey()
        except DeviceLost as error:
            self._device_lost(error)
        except BaseException:
            _log.exception("the loader broke; the worker ends")
            os._exit(70)

    def _obey(self) -> None:
        if self._slots and not self._backend:
            # Nearly every model on a CPU runs on it, and until there is one nobody waits.
            with contextlib.suppress(BackendError):  # who wants it hears why
                self._host.backend("onnxruntime")
        while True:
            message = self._to_load.get()
            if isinstance(message, Load):
                self._control.send(self._host.load(message, self._control.send))
            else:
                # A worker without slots tries models out by the thousand and then ends.
                last = bool(self._slots) and self._to_load.empty()
                with giving_back(all_of_it=last):
                    for slot in self._slots:
                        slot.drop(message.model)
                    unloaded = self._host.unload(message.model)
                self._control.send(unloaded)


def _arguments() -> Any:
    parser = argparse.ArgumentParser(prog="serving.worker", description=__doc__)
    parser.add_argument("--master", type=int, required=True, help="process id of the master")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--run-fd", type=int, action="append", default=[])
    parser.add_argument("--name", default="worker")
    parser.add_argument("--device", default="cpu", help="cpu, gpu or ascend")
    parser.add_argument("--device-index", type=int, default=0)
    parser.add_argument("--backend", default="", help="opened at once, on that device")
    parser.add_argument("--busy-poll-us", type=int, default=0)
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--data-limit-mb", type=int, default=0)
    parser.add_argument("--expendable", action="store_true")
    return parser.parse_args()


def _limit_data(nbytes: int) -> None:
    """Bound this process's memory; a lower limit that the system sets (ulimit -d) stays."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        nbytes = min(nbytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (nbytes, nbytes))
