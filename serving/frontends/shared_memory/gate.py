"""Who may use shared memory: clients on this machine, where the operator has allowed it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import unquote

from serving.errors import Unauthenticated, Unimplemented
from serving.frontends.shared_memory.regions import Regions

EXTENSION = "system_shared_memory"
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via")
"""Header fields of proxies: whom they speak for is somewhere else."""


def opened(regions: Regions | None, is_local: bool, where: str) -> Regions:
    """Return the regions to a client that may use them.

    Raises Unimplemented when shared memory is off, and Unauthenticated for a client elsewhere.
    """
    if regions is None:
        raise Unimplemented(
            "tensors in shared memory are not offered here",
            code="shared_memory_off",
            where=where,
            fix="send the tensor in the message, or start the server with --client-shared-memory",
        )
    if not is_local:
        raise Unauthenticated(
            "shared memory is for clients on the server's own machine",
            code="not_local",
            where=where,
            expected="a loopback address or a Unix socket, without a proxy between",
            fix="connect to 127.0.0.1, or send the tensor in the message",
        )
    return regions


def cuda(where: str) -> Unimplemented:
    """Return the refusal of memory on a GPU."""
    return Unimplemented(
        "CUDA shared memory is not offered here",
        code="no_cuda_shared_memory",
        where=where,
        fix="use system shared memory, or send the tensor in the message",
    )


def local_http(client: tuple[str, int] | None, headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a request comes from a program on this machine; ``client`` is as ASGI says.

    Not from elsewhere through a proxy here, nor from a web page that somebody here looks at.
    """
    if client is None or b"origin" in headers or any(name in headers for name in _FORWARDED):
        return False
    return _is_loopback(client[0])


def local_grpc(peer: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> bool:
    """Return whether a call comes from a program on this machine, not through a proxy here.

    ``peer`` is gRPC's name of it, such as ``ipv4:127.0.0.1:40000``.
    """
    if any(key.encode() in _FORWARDED for key, _ in metadata or ()):
        return False
    kind, _, address = unquote(peer).partition(":")
    if kind == "unix":
        return True
    return kind in ("ipv4", "ipv6") and _is_loopback(address.rpartition(":")[0].strip("[]"))


@lru_cache(maxsize=1024)
def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (found if mapped is None else mapped).is_loopback
