"""Addresses as start scripts write them, with MindSpore Serving's words for those that are none."""

from __future__ import annotations

from typing import NamedTuple

_UNIX = "unix:"
GRPC = "Serving gRPC"
REST = "RESTful server"


class Address(NamedTuple):
    """Where to listen: a host and a port, or (``unix``) a path."""

    host: str = ""
    port: int = 0
    unix: str = ""


def grpc_address(text: str) -> Address:
    """Read ``ip:port`` or ``unix:path``. Raises RuntimeError."""
    if not text.startswith(_UNIX):
        return _socket(text, GRPC)
    path = text.removeprefix(_UNIX)
    if not path:
        raise failed("Empty grpc server unix domain socket address")
    return Address(unix=path)


def rest_address(text: str) -> Address:
    """Read ``ip:port``. Raises RuntimeError."""
    if text.startswith(_UNIX):
        raise failed("RESTful server does not support binding to unix domain socket")
    return _socket(text, REST)


def failed(why: str) -> RuntimeError:
    """Return an error of the server in the form that MindSpore Serving gives to all of them."""
    return RuntimeError(f"Raise failed: Serving Error: {why}")


def _socket(text: str, side: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon:
        raise failed(f"The format of the {side} address '{text}' is illegal")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port:
        raise failed(f"Missing ip or port of the {side} address '{text}'")
    if not (port.isascii() and port.isdecimal()):
        raise failed(f"The type of {side} address '{text}' port is not a number")
    if not 1 <= int(port) <= 65535:
        raise failed(f"The port of the {side} address '{text}' is out of legal range [1 ~ 65535]")
    return Address(host, int(port))
