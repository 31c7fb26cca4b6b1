"""Where the lane listens: addresses that are not here, paths, clients in mid-handshake."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from serving.errors import ConfigError
from serving.frontends.grpc.lane.listening import UnixListener, listeners
from serving.tensor import FP32
from tests.certificates import Authority
from tests.doubles.plane import StubPlane
from tests.unit.frontends.grpc.running import front_end
from tests.unit.frontends.grpc.served import echo

from . import raw
from .running import lane

NOT_HERE = "192.0.2.1"  # for documentation (RFC 5737): no machine has it


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def found(_host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def test_addresses_of_a_name_that_are_not_here_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to(monkeypatch, NOT_HERE, "127.0.0.1", "127.0.0.2")
    opened = listeners("name", 0)
    names = [listener.getsockname() for listener in opened]
    for listener in opened:
        listener.close()
    assert [host for host, _ in names] == ["127.0.0.1", "127.0.0.2"]
    assert len({port for _, port in names}) == 1


def test_a_name_that_has_no_address_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, NOT_HERE)
    with pytest.raises(OSError, match="assign"):
        listeners("name", 0)


def taken_beside_tests(host: str) -> socket.socket:
    """Return a socket on a port that no other test asks the system for, on any address."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        taken = socket.socket()
        try:
            taken.bind((host, random.randrange(lowest // 2, lowest)))
        except OSError:
            taken.close()
        else:
            return taken


def test_a_port_that_one_address_has_taken_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with taken_beside_tests("127.0.0.2") as taken:
        taken.listen()
        resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
        port = taken.getsockname()[1]
        with pytest.raises(OSError) as refused:
            listeners("name", port)
        assert refused.value.errno == errno.EADDRINUSE
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))


def test_a_path_that_a_dead_server_has_left_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "here.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    listener = UnixListener(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    listener.close()
    assert not os.path.exists(path)


async def test_a_path_where_a_server_listens_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "here.sock")
    plane = StubPlane(echo("m", FP32))
    async with front_end(plane, unix=path, grpc_engine="lane"):
        with pytest.raises(ConfigError, match=r"here\.sock is taken"):
            async with front_end(plane, unix=path, grpc_engine="lane"):
                pass
        reader, writer = await asyncio.open_unix_connection(path)
        client = raw.RawClient(reader, writer)
        client.send(raw.PREFACE, raw.settings())
        await client.alive(1)
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("name", ["file", "no/folder/socket", "x" * 200])
def test_a_path_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"in use|No such|too long"):
        UnixListener(str(tmp_path / name))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_path_that_another_has_taken_meanwhile_is_left(tmp_path: Path) -> None:
    path = tmp_path / "here.sock"
    listener = UnixListener(str(path))
    path.unlink()
    path.write_text("another's")
    listener.close()
    assert path.read_text() == "another's"


async def test_stop_does_not_wait_for_a_client_in_mid_handshake(tmp_path: Path) -> None:
    own = Authority(tmp_path).sign("own")
    tls = {"tls_cert": own.certificate, "tls_key": own.key}
    async with lane(StubPlane(echo("m", FP32)), **tls) as front:
        _, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(b"\x16\x03\x01")
        await writer.drain()
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await front.stop()
        assert time.monotonic() - began < raw.WAIT_S
        writer.transport.abort()
