"""Front-end processes are started, replaced and stopped, whatever they do meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from serving.channel.arena import Arena
from serving.config import ServerSettings
from serving.errors import ConfigError, Unavailable
from serving.lifecycle.gate import Gate, Tokens
from serving.lifecycle.manager import Manager
from serving.master import gateway, gateways
from serving.master.gateways import Gateways
from serving.master.plane import MasterPlane
from serving.repository import interpreter
from serving.scheduling.scheduler import Scheduler


class Known:
    """What a plane asks its manager: nothing is served, and that is settled."""

    def __init__(self) -> None:
        self.versions: dict[Any, Any] = {}
        self.unservable: dict[str, str] = {}
        self.available: frozenset[str] = frozenset()
        self.settled = True


def settings(tmp_path: Path, **more: Any) -> ServerSettings:
    return ServerSettings(tmp_path, rest_port=0, grpc_port=0, frontends=2, **more)


def plane_of(arena: Arena) -> MasterPlane:
    plane = MasterPlane(Scheduler(arena), arena, tuple, Gate("none"), strict_readiness=False)
    plane.attach(cast(Manager, Known()), cast(Any, None))
    return plane


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Gateways]:
    arena = Arena(1 << 24)
    made = Gateways(settings(tmp_path, heartbeat_timeout_s=2.0), plane_of(arena), arena, Tokens())
    await made.start()
    yield made
    await made.drain(5.0)
    await made.stop()
    arena.close()


def pids() -> set[int]:
    return {
        child.pid
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "serving.gateway" in child.cmdline()
    }


async def until(there: Callable[[], bool], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not there():
            await asyncio.sleep(0.02)


def up(fleet: Gateways) -> list[bool]:
    return [place.usage is not None for place in fleet.statistics()]


async def get(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_fleet_serves_and_replaces_one_that_ends(fleet: Gateways) -> None:
    assert b" 200 " in await get(fleet.rest_port, "/v2/health/ready")
    before = pids()
    assert len(before) == 2
    os.kill(min(before), signal.SIGKILL)
    await until(lambda: up(fleet) == [True, True] and len(pids() - before) == 1)
    assert sum(place.restarts for place in fleet.statistics()) == 1
    assert b" 200 " in await get(fleet.rest_port, "/v2/health/live")


async def test_connection_that_comes_while_nobody_is_there_is_answered(fleet: Gateways) -> None:
    before = pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: up(fleet) == [False, False])
    assert b" 200 " in await get(fleet.rest_port, "/v2/health/live")
    await until(lambda: up(fleet) == [True, True])
    assert not pids() & before


async def test_each_place_has_one_process_after_starts_that_fail(
    fleet: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = interpreter.command, [2]

    def broken(interpreter: str, module: str) -> tuple[str, ...]:
        if failures[0]:
            failures[0] -= 1
            return (interpreter, "-c", "raise SystemExit(3)")
        return real(interpreter, module)

    monkeypatch.setattr(gateway, "command", broken)
    os.kill(min(pids()), signal.SIGKILL)
    await until(lambda: failures[0] == 0 and up(fleet) == [True, True])
    await asyncio.sleep(0.5)  # whoever else would come, would come now
    assert len(pids()) == 2


async def test_place_is_filled_again_once_there_are_descriptors(
    fleet: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = gateway.pair, [2]

    def exhausted(kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
        if failures[0]:
            failures[0] -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(kind)

    monkeypatch.setattr(gateway, "pair", exhausted)
    os.kill(min(pids()), signal.SIGKILL)
    await until(lambda: failures[0] == 0 and up(fleet) == [True, True])


async def test_start_that_fails_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        gateway, "command", lambda python, _: (python, "-c", "import sys; sys.exit('no luck')")
    )
    arena = Arena(1 << 24)
    made = Gateways(settings(tmp_path), plane_of(arena), arena, Tokens())
    with pytest.raises(Unavailable, match="no luck"):
        await made.start()
    await made.stop()
    assert not pids()


async def test_taken_port_is_told_by_its_flag(fleet: Gateways, tmp_path: Path) -> None:
    arena = Arena(1 << 24)
    for flag, rest_port, grpc_port in (
        ("--rest-port", fleet.rest_port, 0),
        ("--grpc-port", 0, fleet.grpc_port),
    ):
        taken = ServerSettings(tmp_path, rest_port=rest_port, grpc_port=grpc_port, frontends=2)
        made = Gateways(taken, plane_of(arena), arena, Tokens())
        with pytest.raises(ConfigError) as caught:
            await made.start()
        assert caught.value.where == flag
        await made.stop()


async def test_processes_with_grpcio_share_a_port_that_nobody_else_can_take(
    tmp_path: Path,
) -> None:
    arena = Arena(1 << 24)
    terms = settings(tmp_path, grpc_engine="grpcio")
    fleet = Gateways(terms, plane_of(arena), arena, Tokens())
    await fleet.start()
    again = Gateways(replace(terms, grpc_port=fleet.grpc_port), plane_of(arena), arena, Tokens())
    try:
        listening = [
            seen.laddr.port
            for pid in pids()
            for seen in psutil.Process(pid).net_connections("tcp")
            if seen.status == psutil.CONN_LISTEN
        ]
        assert listening.count(fleet.grpc_port) == 2
        with pytest.raises(ConfigError) as caught:
            await again.start()
        assert caught.value.where == "--grpc-port"
        os.kill(min(pids()), signal.SIGKILL)
        await until(lambda: up(fleet) == [True, True])
    finally:
        await again.stop()
        await fleet.drain(5.0)
        await fleet.stop()
        arena.close()


async def test_everybody_has_heard_of_a_change_once_caught_up(fleet: Gateways) -> None:
    assert b" 200 " in await get(fleet.rest_port, "/v2/health/ready")
    fleet._plane.draining = True
    await fleet.caught_up()
    for _ in range(6):
        assert b" 503 " in await get(fleet.rest_port, "/v2/health/ready")


async def test_caught_up_does_not_wait_for_one_that_hangs(
    fleet: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateways, "_LATE_S", 0.2)
    victim = min(pids())
    os.kill(victim, signal.SIGSTOP)
    await asyncio.wait_for(fleet.caught_up(), 5)
    await until(lambda: victim not in pids() and up(fleet) == [True, True])
