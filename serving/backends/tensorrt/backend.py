"""One GPU as this process holds it."""

from __future__ import annotations

import logging
from typing import Dict, List

from serving.backends.base import BackendError, Device, DeviceLost, Model, ModelSource
from serving.backends.tensorrt.cuda import Cuda, again, attempt, worst
from serving.backends.tensorrt.lent import LentMemory
from serving.backends.tensorrt.library import library
from serving.backends.tensorrt.model import TensorRtModel

_log = logging.getLogger("serving.tensorrt")


class TensorRt:
    """The engine; one per worker process. Loaded by one thread, run by ``slots`` others."""

    name = "tensorrt"
    slots = 2

    def __init__(self, device: Device) -> None:
        if device.kind != "gpu":
            raise BackendError(f"the backend 'tensorrt' runs on gpu, not on {device}")
        # CUDA first: without a driver some versions of TensorRT crash instead of saying so.
        self._cuda = Cuda(device.index)
        self._check_present(device)
        self._cuda.use()
        self._library = library()
        self._lent = LentMemory(self._cuda)
        self._models: List[TensorRtModel] = []

    def versions(self) -> Dict[str, str]:
        """Return the versions of TensorRT, the CUDA runtime and the driver."""
        return {
            self._library.name: self._library.version,
            "cuda": _version(self._cuda.call("cudaRuntimeGetVersion")),
            "cuda driver": _version(self._cuda.call("cudaDriverGetVersion")),
        }

    def load(self, source: ModelSource) -> Model:
        """Deserialize an engine file and make its contexts; raises BackendError."""
        model = TensorRtModel(self._cuda, self._library, self._lent, source, self.slots)
        self._models = [kept for kept in self._models if not kept.closed] + [model]
        return model

    def lend(self, address: int, nbytes: int, *, writable: bool) -> None:
        """Register shared memory with the GPU, so that it copies rows by itself."""
        self._lent.lend(address, nbytes, writable=writable)

    def take_back(self, address: int) -> None:
        """Unregister it."""
        self._lent.take_back(address)

    def close(self) -> None:
        """Close every model, then unregister memory; raises DeviceLost at the end if it is lost."""
        models, self._models = self._models, []
        error = worst([*[attempt(model.close) for model in models], self._lent.close()])
        if isinstance(error, DeviceLost):
            raise again(error)
        if error is not None:
            _log.warning("letting the GPU go met a failure: %s", error)

    def _check_present(self, device: Device) -> None:
        try:
            count = int(self._cuda.call("cudaGetDeviceCount"))
        except BackendError as error:
            raise type(error)(f"no NVIDIA GPU can be used here: {error}") from error
        if device.index >= count:
            have = f"gpu:0 to gpu:{count - 1}" if count > 1 else f"{count and 'gpu:0 alone'}"
            raise BackendError(f"there is no {device}; this process sees {have or 'none'}")


def _version(number: int) -> str:
    """Return CUDA's 13010 as 13.1."""
    return f"{number // 1000}.{number % 1000 // 10}"
