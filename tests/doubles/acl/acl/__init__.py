"""A strict stand-in for pyACL, CANN's Python binding, on a machine without an Ascend device.

It knows the functions that the Ascend backend and the device probe call, with pyACL's positional
arguments and return shapes, and no constant. Models are files made by ``tests.doubles.om`` or by
the double of ``atc``; ONNX Runtime computes them. What may be set from outside, and what is
written for tests to read, is told in ``acl._world``.

Wrong use raises ``ContractViolation`` where the real library might crash, or go wrong in silence.
Which codes the real library gives for wrong use is not known for certain; nothing here was
compared with a device.
"""

from __future__ import annotations

from acl import _model as _mod
from acl import mdl, rt, util
from acl._world import REPEAT_FINALIZE as _REPEAT_FINALIZE
from acl._world import REPEAT_INIT as _REPEAT_INIT
from acl._world import api as _api
from acl._world import fail as _fail
from acl._world import world as _world

__all__ = ["mdl", "rt", "util"]

del annotations


def _code(ret):
    return ret


@_api("init", _code, needs="")
def init(*config):
    if len(config) > 1:
        raise TypeError("acl.init args parse failed")
    here = _world()
    here.references += 1
    return 0 if here.references == 1 else _fail(here, _REPEAT_INIT, "acl.init was called before")


@_api("finalize", _code, needs="")
def finalize():
    here = _world()
    if not here.references:
        return _fail(here, _REPEAT_FINALIZE, "nothing is initialised")
    if not set(here.default_contexts.values()) <= here.refused:
        raise here.violation("finalized while a device is set")
    here.references = 0
    here.default_contexts.clear()
    here.write_report()
    return 0


@_api("finalize_reference", lambda ret: (0, ret), needs="")
def finalize_reference():
    here = _world()
    if not here.references:
        return 0, _fail(here, _REPEAT_FINALIZE, "nothing is initialised")
    here.references -= 1
    return here.references, 0


@_api("get_soc_name", needs="")
def get_soc_name():
    here = _world()
    return here.soc if here.references and here.devices else None


@_api("get_version", lambda ret: (0, 0, 0, ret), needs="")
def get_version():
    return 1, 15, 0, 0


@_api("get_recent_err_msg", needs="")
def get_recent_err_msg():
    here = _world()
    told = getattr(here.threads, "message", None)
    here.threads.message = None
    return told


@_api("create_data_buffer", lambda ret: 0, needs="init")
def create_data_buffer(address, size):
    return _world().make("data buffer", _mod.DataBuffer(address, size))


@_api("update_data_buffer", _code, needs="init")
def update_data_buffer(buffer, address, size):
    here = _world()
    thing = here.get(buffer, "data buffer")
    if thing.in_flight:
        raise here.violation("a data buffer is changed while it is in flight")
    thing.holds.address, thing.holds.size = address, size
    return 0


@_api("get_data_buffer_addr", needs="init")
def get_data_buffer_addr(buffer):
    return _world().get(buffer, "data buffer").holds.address


@_api("get_data_buffer_size_v2", needs="init")
def get_data_buffer_size_v2(buffer):
    return _world().get(buffer, "data buffer").holds.size


@_api("destroy_data_buffer", _code, releases=True, needs="init")
def destroy_data_buffer(buffer):
    _world().drop(buffer, "data buffer")
    return 0


@_api("create_tensor_desc", lambda ret: 0, needs="init")
def create_tensor_desc(dtype, dims, format):
    return _world().make("tensor desc", _mod.TensorDesc(dtype, list(dims)))


@_api("destroy_tensor_desc", needs="init")
def destroy_tensor_desc(desc):
    _world().drop(desc, "tensor desc")


def _desc(handle):
    here = _world()
    kind = (
        "dataset tensor desc"
        if handle in here.things and (here.things[handle].kind == "dataset tensor desc")
        else "tensor desc"
    )
    return here.get(handle, kind).holds


@_api("get_tensor_desc_num_dims", needs="init")
def get_tensor_desc_num_dims(desc):
    return len(_desc(desc).dims)


@_api("get_tensor_desc_dim_v2", lambda ret: (0, ret), needs="init")
def get_tensor_desc_dim_v2(desc, index):
    dims = _desc(desc).dims
    return (dims[index], 0) if 0 <= index < len(dims) else (0, 100000)
