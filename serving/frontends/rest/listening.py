"""The socket that REST listens on."""

from __future__ import annotations

import errno
import socket

from serving.errors import ConfigError

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens and does not block. Raises ConfigError, naming the flag."""
    if not 0 <= port <= 65535:
        # getaddrinfo would quietly take the lowest 16 bits.
        raise _cannot_listen(host, port, OverflowError("a port is a number from 0 to 65535"))
    listener = None
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        return listener
    except OSError as error:
        if listener is not None:
            listener.close()
        raise _cannot_listen(host, port, error) from None


def _cannot_listen(host: str, port: int, error: Exception) -> ConfigError:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return ConfigError(
            f"port {port} of {host} is taken by another process",
            code="port_taken",
            where="--rest-port",
            given=str(port),
            fix="choose another port with --rest-port, or 0 for a free one",
        )
    flag = "--rest-port" if isinstance(error, OverflowError) or number == errno.EACCES else "--host"
    fix = f"choose another value for {flag}"
    if host.startswith("[") and host.endswith("]"):
        fix = f"an address is given without brackets: --host {host[1:-1]}"
    return ConfigError(
        f"cannot listen on port {port} of {host}: {getattr(error, 'strerror', '') or error}",
        code="cannot_listen",
        where=flag,
        given=str(port) if flag == "--rest-port" else host,
        fix=fix,
    )
