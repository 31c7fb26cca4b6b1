"""The life of a stage worker: imports one servable's Python code, and runs its functions.

Started by the master as ``python -m serving.worker.stage``. User code has the main thread, as it
would in a script; another one answers the control link. What user code prints goes to the log.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Optional

import numpy as np

from serving import logs
from serving.channel.link import BlockingLink
from serving.channel.messages import (
    PROTOCOL,
    Cancel,
    Hello,
    LoadFailed,
    Ping,
    Pong,
    Registered,
    Stop,
    cut,
)
from serving.definition import BUILTINS
from serving.errors import LoadError
from serving.register import loading
from serving.worker.parent import die_with_the_master, offer_to_the_oom_killer
from serving.worker.stage_slot import StageSlot

_log = logging.getLogger("serving.worker")

_EXPENDABLE = 500
"""User code that fills the memory goes before the server and its models, after trial workers."""


def main() -> None:
    """Run a stage worker on the descriptors that the master passed."""
    options = _arguments()
    die_with_the_master(options.master)
    logs.configure("json", options.log_level, options.name)
    faulthandler.enable()
    offer_to_the_oom_killer(_EXPENDABLE)
    _leave_stopping_to_the_master()
    _look_like_a_script()
    StageWorker(
        BlockingLink(socket.socket(fileno=options.control_fd)),
        BlockingLink(socket.socket(fileno=options.run_fd)),
        options.folder,
        options.servable,
    ).run()


class StageWorker:
    """Owns the links of this process."""

    def __init__(
        self, control: BlockingLink, runs: BlockingLink, folder: Path, servable: str
    ) -> None:
        self._control = control
        self._runs = runs
        self._folder = folder
        self._servable = servable
        self._slot: Optional[StageSlot] = None

    def run(self) -> None:
        """Say hello, import the servable, and run its functions until the master stops us."""
        versions = {"python": sys.version.split()[0], "numpy": np.__version__}
        self._control.send(Hello(PROTOCOL, os.getpid(), versions))
        threading.Thread(target=self._obey, daemon=True, name="control").start()
        try:
            registered = loading.load(self._folder, self._servable)
        except LoadError as error:
            self._control.send(LoadFailed(0, error.code, cut(str(error))))
            _leave()
        definition = registered.definition
        functions = {**BUILTINS, **{f.name: f for f in definition.functions}}
        slot = self._slot = StageSlot(self._runs, self._servable, functions, registered.functions)
        self._control.send(Registered(definition.digest))
        try:
            slot.run()
        except BaseException:
            _log.exception("the stage worker broke; it ends")
            os._exit(70)
        _leave()

    def _obey(self) -> None:
        """Answer the control link until the master stops us or is gone."""
        while True:
            message, _ = self._control.receive()
            if message is None or isinstance(message, Stop):
                _leave()
            if isinstance(message, Ping):
                self._control.send(Pong(message.serial))
            elif isinstance(message, Cancel) and self._slot is not None:
                self._slot.cancel(message.run)


def _leave() -> Any:
    """End at once: a function may be deep in something that nobody waits for."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)


def _arguments() -> Any:
    parser = argparse.ArgumentParser(prog="serving.worker.stage", description=__doc__)
    parser.add_argument("--master", type=int, required=True, help="process id of the master")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--run-fd", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="of servable_config.py")
    parser.add_argument("--servable", required=True)
    parser.add_argument("--name", default="stage")
    parser.add_argument("--log-level", default="info")
    return parser.parse_args()


def _leave_stopping_to_the_master() -> None:
    """Let SIGINT and SIGTERM do nothing here, and what they should in processes of user code.

    A handler, not SIG_IGN: an ignored signal stays ignored in a program that is started from here,
    and a forked one (multiprocessing) could not be ended by its pool.
    """
    theirs = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def nothing(*_: Any) -> None:
        pass

    def restore() -> None:
        for number, handler in theirs.items():
            if signal.getsignal(number) is nothing:
                signal.signal(number, handler)

    for number in theirs:
        signal.signal(number, nothing)
    os.register_at_fork(after_in_child=restore)


def _look_like_a_script() -> None:
    """Hide from user code, and from what it starts, how this process was started."""
    del sys.argv[1:]
    os.environ.pop("PYTHONSAFEPATH", None)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


if __name__ == "__main__":
    main()
