"""``acl.util``: addresses of Python's bytes, and bytes of addresses."""

from __future__ import annotations

from acl import _memory as _m
from acl._world import api as _api
from acl._world import world as _world


@_api("util.bytes_to_ptr", needs="")
def bytes_to_ptr(value):
    if type(value) is not bytes:
        raise ValueError("bytes_to_ptr takes bytes")
    return _m.BORROWED.lend(value)


@_api("util.ptr_to_bytes", needs="")
def ptr_to_bytes(address, count):
    return _m.region(_world(), address, count, _m.HOST)[1].tobytes()
