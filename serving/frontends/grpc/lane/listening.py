"""The sockets that a lane listens on: a port on every address of a host, or a path."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from serving.config import ServerSettings
from serving.errors import ConfigError

BACKLOG = 1024

_NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""``localhost`` has an IPv6 address even where the machine has no IPv6."""


def listeners(host: str, port: int, *, hold: bool = False) -> list[socket.socket]:
    """Listen on a port (0: a free one) of every address of ``host`` that this machine has.

    With ``hold`` nothing listens: the port is held for sockets with SO_REUSEPORT, which do. Raises
    OSError when there is none, or one of them is taken.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, _, _, _, address in found:
            try:
                listener = _bound(family, (address[0], port, *address[2:]), host)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                absent = error
                continue
            opened.append(listener)
            if hold:
                # Only now: nobody else has the port.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            else:
                listener.listen(BACKLOG)
            port = listener.getsockname()[1]  # the other addresses get the same
        if absent is not None and not opened:
            raise absent
    except BaseException:
        for listener in opened:
            listener.close()
        raise
    return opened


def _bound(family: int, address: tuple[object, ...], host: str) -> socket.socket:
    # With the protocol named, asyncio's own loop sends small frames at once, as uvloop does.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


class UnixListener:
    """Listens on a path. ``close`` removes the path, unless another has taken it since."""

    def __init__(self, path: str) -> None:
        """Raises OSError, also where a living server listens there already."""
        self._path = path
        _clear(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.setblocking(False)
            self.socket.bind(path)
            self._made = os.stat(path)
            self.socket.listen(BACKLOG)
        except BaseException:
            self.socket.close()
            raise

    def close(self) -> None:
        """Let go of the path; what listens on the socket must have ended."""
        self.socket.close()
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self._path), self._made):
                os.unlink(self._path)


def _clear(path: str) -> None:
    """Remove a socket that a server has left which is no more. Raises OSError if one is there."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return  # bind says that it is taken
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "a server listens there already")


def port_taken(settings: ServerSettings, address: str = "") -> ConfigError:
    """Return the error for a port that cannot be listened on."""
    host, port = settings.host, settings.grpc_port
    address = address or (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return ConfigError(
        f"the gRPC port cannot be opened: {address} is taken or not an address here",
        code="port_taken",
        where="--grpc-port",
        given=f"--grpc-port {port}",
        fix="stop what listens there, or choose another with --grpc-port (0: a free one)",
    )
