"""``acl.rt``: devices, contexts, streams, memory."""

from __future__ import annotations

from acl import _memory as _m
from acl import _stream as _s
from acl._world import NO_CONTEXT as _NO_CONTEXT
from acl._world import STREAM_CONTEXT as _STREAM_CONTEXT
from acl._world import api as _api
from acl._world import fail as _fail
from acl._world import world as _world

_INVALID, _OVERFLOW, _NO_DEVICE, _BAD_DEVICE, _FULL = 100000, 107000, 207004, 107001, 207001


def _code(ret):
    return ret


def _with_ret(ret):
    return 0, ret


@_api("rt.get_device_count", _with_ret, needs="")
def get_device_count():
    return _world().devices, 0


@_api("rt.set_device", _code, needs="init")
def set_device(device):
    here = _world()
    if not here.devices:
        return _fail(here, _NO_DEVICE, "there is no device")
    if not 0 <= device < here.devices:
        return _fail(here, _BAD_DEVICE, f"there is no device {device}")
    if here.lost(device):
        return _fail(here, 507010, "the device is lost")
    with here.lock:
        if device not in here.default_contexts:
            handle = here.make("context", context=0)
            here.things[handle].device = device
            here.default_contexts[device] = handle
    here.threads.context = here.default_contexts[device]
    return 0


@_api("rt.reset_device", _code, releases=True, needs="init")
def reset_device(device):
    here = _world()
    default = here.default_contexts.get(device)
    if default is None:
        return _fail(here, _BAD_DEVICE, "the device was not set")
    for thing in list(here.things.values()):
        if thing.device != device or thing.handle in (default, *here.refused):
            continue
        owned = thing.context == default and thing.kind in ("stream", "model")
        if thing.kind == "context" or owned:
            raise here.violation(f"the device is reset while a {thing.kind} of it lives")
    del here.default_contexts[device]
    here.drop(default, "context")
    return 0


@_api("rt.get_device", _with_ret, needs="init")
def get_device():
    here = _world()
    return (here.device(), 0) if here.current() else (0, _NO_CONTEXT)


@_api("rt.get_run_mode", _with_ret, needs="init")
def get_run_mode():
    return 1, 0


@_api("rt.create_context", _with_ret, needs="init")
def create_context(device):
    here = _world()
    if not 0 <= device < here.devices:
        return 0, _fail(here, _BAD_DEVICE, f"there is no device {device}")
    if here.lost(device):
        return 0, _fail(here, 507010, "the device is lost")
    handle = here.make("context", context=0)
    here.things[handle].device = device
    here.threads.context = handle
    return handle, 0


@_api("rt.destroy_context", _code, releases=True, needs="init")
def destroy_context(context):
    here = _world()
    here.get(context, "context")
    if context in here.default_contexts.values():
        raise here.violation("a device's own context is destroyed; reset the device")
    for thing in here.alive(context, "stream", "model"):
        raise here.violation(f"a context is destroyed while a {thing.kind} of it lives")
    here.drop(context, "context")
    return 0


@_api("rt.set_context", _code, needs="init")
def set_context(context):
    here = _world()
    if here.things.get(context) is None and context in here.dead:
        return _fail(here, _NO_CONTEXT, "the context is gone")
    here.get(context, "context")
    here.threads.context = context
    return 0


@_api("rt.get_context", _with_ret, needs="init")
def get_context():
    here = _world()
    return (here.current(), 0) if here.current() else (0, _NO_CONTEXT)


@_api("rt.create_stream", _with_ret)
def create_stream():
    return _world().make("stream", _s.Stream()), 0


@_api("rt.destroy_stream", _code, releases=True)
def destroy_stream(stream):
    here = _world()
    if _s.context_of(here, stream) != here.current():
        return _fail(here, _STREAM_CONTEXT, "the stream is of another context")
    here.drop(stream, "stream")
    return 0


def _spoilt(stream, *_):
    _s.abandon(_world(), stream)


@_api("rt.synchronize_stream", _code, spoils=_spoilt)
def synchronize_stream(stream):
    here = _world()
    if _s.context_of(here, stream) != here.current():
        return _fail(here, _STREAM_CONTEXT, "the stream is of another context")
    return _s.synchronize(here, stream, -1)


@_api("rt.synchronize_stream_with_timeout", _code, spoils=_spoilt)
def synchronize_stream_with_timeout(stream, timeout_ms):
    here = _world()
    if _s.context_of(here, stream) != here.current():
        return _fail(here, _STREAM_CONTEXT, "the stream is of another context")
    return _s.synchronize(here, stream, timeout_ms)


@_api("rt.malloc", _with_ret)
def malloc(size, policy):
    return _malloc(size, policy, 63)


@_api("rt.malloc_align32", _with_ret)
def malloc_align32(size, policy):
    return _malloc(size, policy, 31)


def _malloc(size, policy, pad):
    here = _world()
    if size <= 0 or policy not in (0, 1, 2):
        return 0, _fail(here, _INVALID, f"{size} bytes with policy {policy}")
    address = _m.take_device(here, size, (size + pad) // 32 * 32)
    return (address, 0) if address else (0, _fail(here, _FULL, "the device's memory is full"))


@_api("rt.free", _code, releases=True)
def free(address):
    here = _world()
    if not address:
        return _fail(here, _INVALID, "no address")
    _m.give_back(here, address, _m.DEVICE)
    return 0


@_api("rt.malloc_host", _with_ret)
def malloc_host(size):
    here = _world()
    if size <= 0:
        return 0, _fail(here, _INVALID, "no size")
    return _m.take_pinned(here, size), 0


@_api("rt.free_host", _code, releases=True)
def free_host(address):
    here = _world()
    if not address:
        return _fail(here, _INVALID, "no address")
    _m.give_back(here, address, _m.PINNED)
    return 0


def _copy_refusal(dst, dst_max, src, count, kind):
    here = _world()
    if kind not in _m.SIDES or not dst or not src:
        return _fail(here, _INVALID, "no address, or no such kind of copy")
    if count > dst_max:
        return _fail(here, _OVERFLOW, f"{count} bytes into {dst_max}")
    return 0


@_api("rt.memcpy", _code)
def memcpy(dst, dst_max, src, count, kind):
    here = _world()
    if count == 0:
        return 0
    code = _copy_refusal(dst, dst_max, src, count, kind)
    if code:
        return code
    sides = _m.SIDES[kind]
    _at_rest(here, dst)
    target = _m.region(here, dst, count, sides[0])[1]
    target[:] = _m.region(here, src, count, sides[1])[1]
    return 0


@_api("rt.memcpy_async", _code)
def memcpy_async(dst, dst_max, src, count, kind, stream):
    here = _world()
    if _s.context_of(here, stream) != here.current():
        return _fail(here, _STREAM_CONTEXT, "the stream is of another context")
    if count == 0:
        return 0
    code = _copy_refusal(dst, dst_max, src, count, kind)
    if not code:
        _s.put(here, stream, _s.copy(here, dst, src, count, kind))
    return code


@_api("rt.memset", _code)
def memset(address, most, value, count):
    here = _world()
    if count > most:
        return _fail(here, _OVERFLOW, f"{count} bytes into {most}")
    _at_rest(here, address)
    _m.region(here, address, count, _m.DEVICE)[1][:] = value & 0xFF
    return 0


@_api("rt.get_mem_info", lambda ret: (0, 0, ret))
def get_mem_info(attribute):
    here = _world()
    if attribute != (0 if "310" in here.soc else 1):  # DDR on the 310 family, HBM on the 910
        return 0, 0, _fail(here, _INVALID, "the device has no such memory")
    return here.capacity - here.used[here.device()], here.capacity, 0


def _at_rest(here, address):
    handle = _m.owner(here, address)
    if handle and here.things[handle].in_flight:
        raise here.violation("memory is written while it is in flight")
