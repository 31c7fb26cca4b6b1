"""CUDA's runtime on one device: every call is checked, every failure is one of our errors.

Calls release the GIL (cuda-bindings since 12.9.1). Handles and addresses are plain integers.
"""

from __future__ import annotations

import importlib
import threading
from typing import Any, Callable

from serving.backends.base import BackendError, DeviceLost
from serving.backends.tensorrt import faults


class Cuda:
    """One device as this process uses it; used by all threads.

    The current device is a property of a thread: who calls from a new one calls ``use`` first.
    """

    def __init__(self, index: int) -> None:
        self.runtime: Any = importlib.import_module("cuda.bindings.runtime")
        self.index = index
        self._ready = threading.local()

    def use(self) -> None:
        """Make the device the calling thread's own; cheap when it is."""
        if not getattr(self._ready, "done", False):
            self.call("cudaSetDevice", self.index)
            self._ready.done = True

    def call(self, name: str, *arguments: Any) -> Any:
        """Call, and return what it gives besides its error: nothing, a value, or a tuple.

        Raises DeviceLost, MemoryExhausted or BackendError.
        """
        result = getattr(self.runtime, name)(*arguments)
        if int(result[0]):
            raise self._failure(name, result[0])
        if len(result) == 2:
            return result[1]
        return result[1:] or None

    def pending(self) -> "BackendError | None":
        """Return the error that a library left in the runtime, and clear it if it can be."""
        (error,) = self.runtime.cudaGetLastError()
        return self._error("a launch", error) if int(error) else None

    def stream(self) -> int:
        """Create a stream that does not wait for the default one."""
        return int(self.call("cudaStreamCreateWithFlags", self.runtime.cudaStreamNonBlocking))

    def to_device(self, target: int, source: int, nbytes: int, stream: int) -> None:
        """Queue a copy from memory of the host that the device reaches."""
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", target, source, nbytes, kind, stream)

    def to_host(self, target: int, source: int, nbytes: int, stream: int) -> None:
        """Queue a copy into memory of the host that the device reaches."""
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", target, source, nbytes, kind, stream)

    def attribute(self, name: str) -> int:
        """Return a number about the device, 0 where this runtime does not know of it."""
        attribute = getattr(self.runtime.cudaDeviceAttr, name, None)
        if attribute is None:
            return 0
        return int(self.call("cudaDeviceGetAttribute", attribute, self.index))

    def _failure(self, call: str, error: Any) -> BackendError:
        # An error that stays in the runtime would be taken for TensorRT's own by its next launch.
        self.runtime.cudaGetLastError()
        return self._error(call, error)

    def _error(self, call: str, error: Any) -> BackendError:
        name, text = error.name, ""
        status, words = self.runtime.cudaGetErrorString(error)
        if not int(status) and words:
            text = words.decode(errors="replace")
        return faults.of_cuda(call, name, text)


def attempt(step: Callable[..., object], *arguments: Any) -> "BackendError | None":
    """Let something go: return what went wrong instead of raising, for the rest must go too.

    What is returned knows no frame: an error that is kept in one keeps an engine alive.
    """
    try:
        step(*arguments)
    except BackendError as error:
        return again(error)
    return None


def again(error: BackendError) -> BackendError:
    """Return an equal error to raise.

    One that is raised by a local name is in a cycle with that name's frame, and keeps the engine
    and contexts of all frames above in the GPU's memory until Python looks for cycles.
    """
    return type(error)(str(error))


def worst(errors: "list[BackendError | None]") -> "BackendError | None":
    """Return the error that matters most: a lost device before anything else."""
    told = [error for error in errors if error is not None]
    lost = [error for error in told if isinstance(error, DeviceLost)]
    return (lost or told or [None])[0]
