"""Looks for Ascend devices through pyACL, which comes with CANN.

Its functions return a value and a code, or only one of them; it has no constants of its own.
"""

from __future__ import annotations

from typing import Any, Dict

from serving.probing.answering import Absent, serve

_OK, _REPEATED = 0, 100002
_NO_DEVICE = 207004
_MEMORIES = (1, 0)
"""HBM (910 family), then DDR (310 family): a device has one of them."""


def devices() -> Dict[str, Any]:
    """Return every Ascend device with its type and memory."""
    acl = _acl()
    code = acl.init()
    if code not in (_OK, _REPEATED):
        raise Absent(f"acl.init failed with code {code}")
    try:
        count, code = acl.rt.get_device_count()
        if code == _NO_DEVICE or (not code and not count):
            raise Absent("the driver finds no Ascend device")
        if code:
            raise Absent(f"acl.rt.get_device_count failed with code {code}")
        return {
            "devices": [_device(acl, index) for index in range(count)],
            "versions": {},
        }
    finally:
        acl.finalize()


def engine() -> Dict[str, Any]:
    """Return CANN's version as far as this pyACL tells it."""
    acl = _acl()
    tell = getattr(acl, "get_version", None)
    if tell is None:
        return {"versions": {"acl": "unknown"}}
    *numbers, code = tell()
    return {"versions": {"acl": ".".join(map(str, numbers)) if not code else "unknown"}}


def _acl() -> Any:
    try:
        import acl
    except ImportError as error:
        raise Absent(
            f"pyACL, which comes with CANN, cannot be imported: {error}; run its set_env.sh, or "
            "name interpreter and environment under [backends.ascend]"
        ) from None
    return acl


def _device(acl: Any, index: int) -> Dict[str, Any]:
    found: Dict[str, Any] = {"index": index, "name": ""}
    code = acl.rt.set_device(index)
    if code:
        return {**found, "problem": f"acl.rt.set_device failed with code {code}"}
    try:
        found["name"] = str(acl.get_soc_name() or "")
        for kind in _MEMORIES:
            free, total, code = acl.rt.get_mem_info(kind)
            if not code and total:
                found.update(memory_bytes=int(total), free_bytes=int(free))
                break
    finally:
        acl.rt.reset_device(index)
    return found


if __name__ == "__main__":
    serve({"devices": devices, "engine": engine})
