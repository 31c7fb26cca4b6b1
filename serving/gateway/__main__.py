"""Starts a front-end process on the descriptors that the master passed."""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import signal
import socket
from typing import Any

import uvloop

from serving import logs
from serving.gateway.freed_memory import keep_freed_memory
from serving.gateway.process import Inherited, Process

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run a front end until the master lets it go."""
    options = _arguments()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != options.master:
        os._exit(0)  # it died before we asked
    logs.configure("json", options.log_level, options.name)
    # Ctrl-C in a terminal reaches the whole group: stopping is the master's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    keep_freed_memory()
    # As in the master: what a request makes is gone with it, and what imports made stays.
    gc.set_threshold(20_000, 20, 50)
    gc.collect()
    gc.freeze()
    uvloop.run(_run(options))


async def _run(options: Any) -> None:
    inherited = Inherited(
        socket.socket(fileno=options.rest_fd),
        [socket.socket(fileno=fd) for fd in options.grpc_fd],
        options.rest_shares_fd,
        options.grpc_shares_fd,
        options.place,
        options.places,
    )
    await Process(socket.socket(fileno=options.link_fd), inherited).run()


def _arguments() -> Any:
    parser = argparse.ArgumentParser(prog="serving.gateway", description=__doc__)
    parser.add_argument("--master", type=int, required=True, help="process id of the master")
    parser.add_argument("--name", required=True)
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--link-fd", type=int, required=True)
    parser.add_argument("--rest-fd", type=int, required=True)
    parser.add_argument("--grpc-fd", type=int, action="append", default=[])
    parser.add_argument("--rest-shares-fd", type=int, required=True)
    parser.add_argument("--grpc-shares-fd", type=int, required=True)
    parser.add_argument("--place", type=int, required=True)
    parser.add_argument("--places", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
