"""A master that is killed takes everything with it: processes, ports, shared memory."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import psutil

from tests.models import hang_at_load, mlp
from tests.server import serving, until
from tests.shared_objects import names_of_servers

_LONGEST_S = 15.0
"""A few hundredths where the machine is idle; beyond this nothing would end any more."""


def _can_bind(port: int) -> bool:
    with socket.socket() as listener:
        # As every server does: a connection that was cut may linger and holds nothing.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError:
            return False
        return True


def _all_ended(processes: list[psutil.Process]) -> bool:
    """Return whether none runs any more; one that nobody has reaped yet holds nothing."""
    return not any(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes
    )


def test_killed_master_leaves_no_process_port_or_segment(tmp_path: Path) -> None:
    mlp(tmp_path / "models" / "mlp" / "1" / "model.onnx")
    named_before = names_of_servers()
    with serving(tmp_path / "models", tmp_path / "run", "--workers", "2") as server:
        assert server.predict({"instances": [{"x": [0.5] * 16}]})[0] == 200
        ports = (server.rest_port, server.grpc_port)
        assert not any(_can_bind(port) for port in ports)
        family = server.children()
        assert len(server.workers()) == 2
        server.process.kill()
        killed = time.monotonic()
        server.process.wait(20)
        until(lambda: _all_ended(family), _LONGEST_S, "the workers' end")
        until(lambda: all(_can_bind(port) for port in ports), _LONGEST_S, "the ports")
        # Other processes of the machine may come and go: only a name that lasts counts.
        until(lambda: not names_of_servers() - named_before, _LONGEST_S, "an empty /dev/shm")
        print(f"nothing left {time.monotonic() - killed:.2f} s after a kill -9")


def test_killed_master_takes_a_hanging_trial_with_it(tmp_path: Path) -> None:
    hang_at_load(tmp_path / "models" / "hang" / "1" / "model.onnx")
    with serving(tmp_path / "models", tmp_path / "run", wait=False) as server:

        def trials() -> list[psutil.Process]:
            lines = [(child, child.cmdline()) for child in server.children()]
            return [child for child, line in lines if "--expendable" in line]

        until(lambda: trials() and "loading" in server.log(), 60, "a trial that loads")
        family = server.children()
        server.process.kill()
        server.process.wait(20)
        until(lambda: _all_ended(family), _LONGEST_S, "the trial's end")
