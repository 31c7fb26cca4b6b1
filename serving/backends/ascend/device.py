"""One Ascend device, held by this process: initialised once, given back in CANN's order.

A context belongs to a thread and must be set in each: models are loaded on one thread and run on
another, in the one context that this backend makes. The order of giving back is CANN's: models,
context, device, library.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Any, Dict, Iterator, List

import acl

from serving.backends.ascend.constants import REPEAT_INITIALIZE, RUNS_ON_HOST
from serving.backends.ascend.failure import check, released, value
from serving.backends.ascend.model import OmModel
from serving.backends.base import Backend, BackendError, Device, DeviceLost, Model, ModelSource

_log = logging.getLogger("serving.worker")


def open(device: Device) -> Backend:
    """Take hold of a device; raises BackendError with CANN's reason."""
    if device.kind != "ascend":
        raise BackendError(f"the backend 'ascend' runs on ascend devices, not on {device}")
    return Ascend(device.index)


class _Library:
    """CANN's library in this process: initialised by the first device, finalised by the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0

    def open(self) -> None:
        with self._lock:
            if not self._users:
                code = acl.init()
                if code != REPEAT_INITIALIZE:  # someone else in this process was first
                    check("init", code)
            self._users += 1

    def close(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                released("finalize", acl.finalize())


_library = _Library()


class Ascend:
    """The backend; ``slots`` is 1, for an execution has the whole device."""

    name = "ascend"
    slots = 1

    def __init__(self, index: int) -> None:
        self._index = index
        self._lost = ""
        self._models: List[OmModel] = []
        self._release = contextlib.ExitStack()
        try:
            self._open(index)
        except BaseException:
            self._release.close()
            raise

    def _open(self, index: int) -> None:
        _library.open()
        self._release.callback(_library.close)
        check("rt.set_device", acl.rt.set_device(index))
        self._release.callback(self.give_up, "rt.reset_device", acl.rt.reset_device, index)
        if value("rt.get_run_mode", acl.rt.get_run_mode()) != RUNS_ON_HOST:
            raise BackendError("this program runs on the Ascend chip itself, not on its host")
        self._context = value("rt.create_context", acl.rt.create_context(index))
        self._release.callback(
            self.give_up, "rt.destroy_context", acl.rt.destroy_context, self._context
        )

    def versions(self) -> Dict[str, str]:
        """Return the version of CANN's interface and the chip's name, as ``atc`` takes it."""
        told = getattr(acl, "get_version", None)  # not in every release
        *numbers, code = told() if told is not None else (1,)
        version = "unknown" if code else ".".join(map(str, numbers))
        return {"acl": version, "soc": str(acl.get_soc_name())}

    def load(self, source: ModelSource) -> Model:
        """Load an OM file; options: ``output_bytes``, where a model does not bound its outputs."""
        with self.entered():
            model = OmModel(self).load(source)
            self._models.append(model)
            return model

    def lend(self, address: int, nbytes: int, *, writable: bool) -> None:
        """Do nothing: rows pass through pinned memory (see ``buffers``)."""

    def take_back(self, address: int) -> None:
        """Do nothing, as for ``lend``."""

    def close(self) -> None:
        """Close what is loaded and let go of the device."""
        for model in list(self._models):
            model.close()
        self._release.close()

    # -- what models use ------------------------------------------------------------------------

    @contextlib.contextmanager
    def entered(self, *, lost_too: bool = False) -> Iterator[None]:
        """Work in the device's context; after it was lost only to give things back."""
        if self._lost and not lost_too:
            raise DeviceLost(self._lost)
        code = acl.rt.set_context(self._context)
        if not lost_too:
            check("rt.set_context", code)
        try:
            yield
        except DeviceLost as error:
            self._lost = str(error)
            raise

    def give_up(self, call: str, release: Any, given: int) -> None:
        """Release something; where CANN refuses, the device is not trusted with anything new."""
        if not released(call, release(given)):
            self.distrust()

    def distrust(self) -> None:
        """Take the device for lost: only the end of this process frees what CANN did not."""
        self._lost = self._lost or "the device did not give back what it was asked to"

    def forget(self, model: OmModel) -> None:
        """Leave a closed model out when everything is closed."""
        with contextlib.suppress(ValueError):
            self._models.remove(model)
