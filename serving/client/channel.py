"""How a client connects: the address as people write it, and gRPC's options."""

from __future__ import annotations

import re
import socket

from serving.errors import ConfigError
from serving.v1 import SERVICE
from serving.v1.bearer import TOKEN_FORM, bearer, is_token

DEFAULT_ADDRESS = "localhost:5500"
METHODS = ("Predict", "Describe", "List", "Ready")
_DEFAULT_PORT = 5500
_HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:.%\w]+\]|[^\s:/\[\]]+)(:(?P<port>[0-9]{1,5}))?")

_LOOK_S = 0.2
_HERE = re.compile(r"(localhost|127\.[0-9.]+|\[::1\]|unix.*):.*")

_OPTIONS: tuple[tuple[str, int], ...] = (
    # The server says what is too large for it (--max-request-mb); the client takes any answer.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that was just started is found at once, within the pauses of three retries, however
    # long it was away; gRPC's own choice is one second and more.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 100),
)


def target(address: str) -> str:
    """Return gRPC's target for ``host``, ``host:port``, ``[IPv6]:port`` or ``unix:path``.

    Raises ConfigError for a URL of another protocol and for a port that is none.
    """
    text = address.strip().removeprefix("grpc://").rstrip("/")
    if text.startswith(("unix:", "unix-abstract:")):
        return text
    if "://" in text or not text:
        raise _wrong(address)
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None or not 0 < int(found["port"] or _DEFAULT_PORT) < 65536:
        raise _wrong(address)
    return text if found["port"] else f"{text}:{_DEFAULT_PORT}"


def options(target: str) -> tuple[tuple[str, int], ...]:
    """Return gRPC's options; a server on this machine is never asked through a proxy.

    gRPC would send even that through ``http_proxy``, unless ``no_proxy`` says otherwise.
    """
    return (*_OPTIONS, ("grpc.enable_http_proxy", 0)) if _HERE.fullmatch(target) else _OPTIONS


def listens_here(target: str) -> bool:
    """Return whether something listens at a port of ``localhost``; False for any other host.

    That name has two addresses, of which servers mostly listen on one, and gRPC tells what it
    heard from either: "refused" of the one may be all that is said of an answer of the other. On
    this machine a connection is made, or refused, at once.
    """
    host, _, port = target.rpartition(":")
    return host == "localhost" and any(_listens(ip, int(port)) for ip in ("127.0.0.1", "::1"))


def _listens(ip: str, port: int) -> bool:
    try:
        socket.create_connection((ip, port), _LOOK_S).close()
    except OSError:
        return False
    return True


def metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """Return what goes with each call. Raises ConfigError for what cannot be a token."""
    if token is None:
        return ()
    if not is_token(token):
        raise ConfigError("the token is none", where="token", expected=TOKEN_FORM)
    return (("authorization", bearer(token)),)


def path(method: str) -> str:
    """Return the name of a call on the wire."""
    return f"/{SERVICE}/{method}"


def _wrong(address: str) -> ConfigError:
    return ConfigError(
        f"{address!r} is not an address of a gRPC server",
        code="bad_address",
        expected=f"host:port, such as {DEFAULT_ADDRESS}",
        fix="gRPC and REST have ports of their own; this is about --grpc-port",
    )
